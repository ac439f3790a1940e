package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// fakeUndecided is a fake operations.UndecidedEventsAdmin. It returns the values that the test has set, and records its calls.
type fakeUndecided struct {
	operations.UndecidedEventsAdmin
	groups operations.Groups
	asked  []string
	err    error
}

func (p *fakeUndecided) Groups(context.Context) (operations.Groups, error) { return p.groups, p.err }

func (p *fakeUndecided) Count(_ context.Context, choice operations.Choice) (operations.ChoiceCount, error) {
	p.asked = append(p.asked, fmt.Sprint("count ", choice))
	return operations.ChoiceCount{Events: 5, Unreadable: 1, EventsBehind: 7}, p.err
}

func (p *fakeUndecided) Retry(_ context.Context, choice operations.Choice) (int, error) {
	p.asked = append(p.asked, fmt.Sprint("retry ", choice))
	return 4, p.err
}

func (p *fakeUndecided) Discard(_ context.Context, choice operations.Choice) (int, error) {
	p.asked = append(p.asked, fmt.Sprint("discard ", choice))
	return 5, p.err
}

// ForSubscriber returns the fake for its only subscriber, "e mails".
func (p *fakeUndecided) ForSubscriber(_ context.Context, subscriber string) (operations.UndecidedEventsAdmin, error) {
	if subscriber != "e mails" {
		return nil, inbox.ErrNoSubscriber.With("no subscriber %q", subscriber)
	}
	return p, nil
}

func newUndecided(t *testing.T) (*adminService, *fakeUndecided) {
	t.Helper()
	p := &fakeUndecided{}
	return newAdminService(t, func(o *httpapi.AdminOptions) { o.Parked, o.DeadLetters = p, p }), p
}

const (
	lettersPath = "/subscribers/e%20mails/letters"
	parkedPath  = "/outbox/parked"
)

// TestFailureGroups checks the JSON of groups of dead letters and of parked events.
func TestFailureGroups(t *testing.T) {
	b, p := newUndecided(t)
	for _, path := range []string{lettersPath, parkedPath} {
		p.groups = operations.Groups{}
		require.JSONEq(t, `{"events":0,"more_events":false,"all_groups":0,"groups":[]}`, b.ask("GET", path+"/groups", "").body)
		p.groups = operations.Groups{Events: 3, All: 7, More: true, List: []operations.Group{
			{
				Fingerprint: fault.NewFingerprint("no address"), Events: 2, EventsBehind: 1, First: noon, Last: noon.Add(time.Minute), Types: []string{"a.v1", "b.v1"},
				Example: operations.UndecidedEvent{
					Position: 9, EventID: "event-9", Key: outbox.Key{Type: "order", ID: "7"}, Type: "a.v1", Reason: "no address",
				},
			},
			{
				Fingerprint: fault.NewFingerprint("no type"), Events: 1, First: noon, Last: noon,
				Example: operations.UndecidedEvent{EventID: "unreadable-7", Reason: "no type"},
			},
		}}
		got := b.ask("GET", path+"/groups", "")
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.JSONEq(t, `{"events":3,"more_events":true,"all_groups":7,"groups":[
			{"group":"5917eeb97442","pattern":"no address","events":2,"behind":1,"first_at":"2026-11-05T12:30:00Z","last_at":"2026-11-05T12:31:00Z",
				"types":["a.v1","b.v1"],"example":{"event_id":"event-9","position":9,"aggregate_type":"order","aggregate_id":"7","type":"a.v1",
				"reason":"no address"}},
			{"group":"`+fault.NewFingerprint("no type").ID+`","pattern":"no type","events":1,"behind":0,"first_at":"2026-11-05T12:30:00Z",
				"last_at":"2026-11-05T12:30:00Z","types":[],"example":{"event_id":"unreadable-7","reason":"no type"}}
		]}`, got.body)
	}
	requireProblem(t, b.ask("GET", "/subscribers/email/letters/groups", ""), 404, "no_such_subscriber", `no subscriber "email"`, "")
	p.err = fault.New(fault.NotFound, "not_parked", "gone")
	requireProblem(t, b.ask("GET", parkedPath+"/groups", ""), 404, "not_parked", "gone", "")
}

// TestDecisions checks, for each choice, which events are counted and changed.
func TestDecisions(t *testing.T) {
	b, p := newUndecided(t)
	for path, verb := range map[string]string{
		lettersPath + "/retry": "retry", lettersPath + "/discard": "discard", parkedPath + "/redrive": "retry", parkedPath + "/discard": "discard",
	} {
		changed := map[string]int{"retry": 4, "discard": 5}[verb]
		for body, choice := range map[string]operations.Choice{
			`{"all":true}`:                                {},
			`{"group":"5917eeb97442"}`:                    {Group: "5917eeb97442"},
			`{"type":"a.v1","dry_run":false}`:             {Type: "a.v1"},
			`{"aggregate":"voucher/7","group":"x"}`:       {Aggregate: outbox.Key{Type: "voucher", ID: "7"}, Group: "x"},
			`{"aggregate":"` + customer + `","type":"x"}`: {Aggregate: outbox.Key{Type: "order", ID: customer}, Type: "x"},
		} {
			p.asked = nil
			got := b.ask("POST", path, body)
			require.Equal(t, http.StatusOK, got.status, got.body)
			require.JSONEq(t, fmt.Sprintf(`{"chosen":5,"behind":7,"changed":%d}`, changed), got.body)
			require.Equal(t, []string{fmt.Sprint("count ", choice), fmt.Sprint(verb, " ", choice)}, p.asked, path)
		}
		p.asked = nil
		require.JSONEq(t, `{"chosen":5,"behind":7,"changed":0}`, b.ask("POST", path, `{"all":true,"dry_run":true}`).body)
		require.Equal(t, []string{"count {  /}"}, p.asked, "a dry run only counts")
	}
	requireProblem(t, b.ask("POST", "/subscribers/email/letters/retry", `{"all":true}`), 404, "no_such_subscriber", `no subscriber "email"`, "")
	p.err = fault.New(fault.NotFound, "not_parked", "gone")
	requireProblem(t, b.ask("POST", parkedPath+"/discard", `{"all":true}`), 404, "not_parked", "gone", "")
}

// TestChoicesAreJudged checks that an unclear or wrong choice changes nothing.
func TestChoicesAreJudged(t *testing.T) {
	b, p := newUndecided(t)
	const what = "needs either all, or at least one of group, type and aggregate"
	for body, errors := range map[string]string{
		`{}`:                            field("", what),
		`{"dry_run":true}`:              field("", what),
		`{"all":true,"group":"x"}`:      field("", what),
		`{"all":false}`:                 field("all", "must be true, or left out"),
		`{"group":7}`:                   field("group", "must be a string, not a number"),
		`{"group":""}`:                  field("group", "must not be empty"),
		`{"type":""}`:                   field("type", "must not be empty"),
		`{"aggregate":"7"}`:             field("aggregate", "is neither the UUID of an order nor the TYPE/ID of another aggregate"),
		`{"all":true,"dry_run":"true"}`: field("dry_run", "must be true or false"),
		`{"event":"x","all":true}`:      field("event", "is not known; known are group, type, aggregate, all, dry_run"),
		`{"all":true,"dry_run":null}`:   field("dry_run", "must be true or false"),
	} {
		for _, path := range []string{lettersPath + "/retry", parkedPath + "/discard"} {
			got := b.ask("POST", path, body)
			require.Equal(t, http.StatusBadRequest, got.status, body)
			var problem httpapi.Problem
			require.NoError(t, json.Unmarshal([]byte(got.body), &problem))
			wrong, err := json.Marshal(problem.Errors)
			require.NoError(t, err)
			require.JSONEq(t, errors, string(wrong))
		}
	}
	requireProblem(t, b.ask("POST", parkedPath+"/redrive", ""), 400, "malformed_body", "a body is required: a JSON object", "")
	require.Empty(t, p.asked)
	require.Equal(t, http.StatusNotFound, newAdminService(t).ask("POST", strings.Replace(lettersPath, "%20", "", 1)+"/retry", "{}").status)
}
