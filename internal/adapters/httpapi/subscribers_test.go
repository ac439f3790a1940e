package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// registry is a fake operations.SubscriberAdmin. It records its calls.
type registry struct {
	found operations.SubscriberList
	asked []string
	err   error
}

func (r *registry) note(format string, args ...any) error {
	r.asked = append(r.asked, fmt.Sprintf(format, args...))
	return r.err
}

func (r *registry) Subscribers(context.Context) (operations.SubscriberList, error) {
	return r.found, r.err
}

func (r *registry) Summaries(_ context.Context, end uint64) ([]operations.SubscriberSummary, error) {
	var summaries []operations.SubscriberSummary
	for _, status := range r.found.All {
		summary := operations.SubscriberSummary{Overview: status.Overview}
		if len(status.Lanes) > 0 {
			behind := end - min(inbox.Lowest(status.Lanes).Sequence, end)
			summary.MessagesBehind, summary.Stalled = &behind, status.Stalled(behind > 0)
		}
		summaries = append(summaries, summary)
	}
	return summaries, r.err
}

func (r *registry) Pause(_ context.Context, id string) error { return r.note("pause %s", id) }

func (r *registry) Resume(_ context.Context, id string) error { return r.note("resume %s", id) }

func (r *registry) RemoveTombstone(_ context.Context, id string) error { return r.note("lift %s", id) }

func (r *registry) Forget(_ context.Context, id string) (int, error) {
	return 7, r.note("forget %s", id)
}

func (r *registry) Ignore(_ context.Context, id, eventType string) (int, error) {
	return 3, r.note("ignore %s %s", id, eventType)
}

func (r *registry) SetLanes(_ context.Context, id string, lanes int) (uint64, int, error) {
	return 40, 2, r.note("lanes %s %d", id, lanes)
}

func (r *registry) Plan(_ context.Context, id string, target operations.MoveTarget, forwards bool) (operations.MovePreview, error) {
	return operations.MovePreview{
		Subscriber: id, Move: inbox.Move{To: inbox.StreamPosition{Sequence: 5}, Forwards: forwards}, Lanes: 2, Lowest: 6, Highest: 9, Events: 4,
	}, r.note("plan %s %d %t", id, target.Sequence, forwards)
}

func (r *registry) Move(_ context.Context, plan operations.MovePreview) (operations.MovePreview, error) {
	return plan, r.note("move %s", plan.Subscriber)
}

// withRegistry starts an admin listener with the routes of subscribers.
func withRegistry(t *testing.T) (*adminService, *registry) {
	t.Helper()
	r := &registry{}
	return newAdminService(t, func(o *httpapi.AdminOptions) { o.Subscribers = r }), r
}

// TestSubscribersAreListed checks the JSON of the list of subscribers.
func TestSubscribersAreListed(t *testing.T) {
	b, r := withRegistry(t)
	require.JSONEq(t, `{"subscribers": [], "stream_trouble": null}`, b.ask("GET", "/subscribers", "").body)
	at := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	r.found = operations.SubscriberList{StreamError: errors.New("no answer"), All: []operations.SubscriberStatus{
		{Overview: inbox.Overview{Subscriber: "a", Subscription: inbox.Subscription{Forgotten: at}}},
		{
			Overview: inbox.Overview{
				Subscriber: "b", Subscription: inbox.Subscription{Handler: "totals", Types: []string{"t"}, Paused: true}, PausedFor: time.Minute,
				Lanes: []inbox.Checkpoint{{StreamPosition: inbox.StreamPosition{Sequence: 8, StoredAt: at}, Idle: time.Second}}, Copies: []string{"one"},
				Dead: 1, Waiting: 2, FilledEvents: 3, MissedMessages: 4, Applied: at, Rate: 1.5,
			},
			Lag: &operations.Lag{Events: 2, Oldest: 3 * time.Second}, MessagesBehind: []uint64{2},
		},
	}}
	require.JSONEq(t, `{"stream_trouble": "no answer", "subscribers": [
		{"subscriber": "a", "handler": null, "types": [], "state": "forgotten", "paused_seconds": null, "forgotten_at": "2026-11-29T10:00:00Z",
			"copies": [], "lag_events": null, "lag_seconds": null, "applied_per_second": 0, "applied_at": null, "dead_letters": 0, "waiting_letters": 0, "filled_events": 0, "missed_messages": 0,
			"lanes": []},
		{"subscriber": "b", "handler": "totals", "types": ["t"], "state": "paused", "paused_seconds": 60, "forgotten_at": null, "copies": ["one"],
			"lag_events": 2, "lag_seconds": 3, "applied_per_second": 1.5, "applied_at": "2026-11-29T10:00:00Z", "dead_letters": 1, "waiting_letters": 2, "filled_events": 3, "missed_messages": 4,
			"lanes": [{"lane": 0, "sequence": 8, "stored_at": "2026-11-29T10:00:00Z", "messages_behind": 2, "unmoved_seconds": 1}]}
	]}`, b.ask("GET", "/subscribers", "").body)
}

// TestStatusShowsSubscribers checks the subscribers in the relay's status, and that the status is shown without them if they cannot be
// read.
func TestStatusShowsSubscribers(t *testing.T) {
	b, r := withRegistry(t)
	b.state = operations.RelayStatus{Sequence: 10}
	subscribers := func() string {
		got := b.ask("GET", "/outbox/status", "")
		require.Equal(t, http.StatusOK, got.status, got.body)
		var shown struct{ Subscribers json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(got.body), &shown))
		return string(shown.Subscribers)
	}
	require.JSONEq(t, `[]`, subscribers())
	r.found.All = []operations.SubscriberStatus{
		{Overview: inbox.Overview{Subscriber: "a", Subscription: inbox.Subscription{Paused: true}, PausedFor: time.Minute}},
		{Overview: inbox.Overview{
			Subscriber: "b", Lanes: []inbox.Checkpoint{{StreamPosition: inbox.StreamPosition{Sequence: 8}, Idle: time.Hour}, {StreamPosition: inbox.StreamPosition{Sequence: 12}}},
			Copies: []string{"one", "two"}, Dead: 1, MissedMessages: 4, Rate: 1.5,
		}},
	}
	require.JSONEq(t, `[
		{"subscriber": "a", "state": "paused", "paused_seconds": 60, "stalled_seconds": null, "messages_behind": null,
			"applied_per_second": 0, "copies": 0, "dead_letters": 0, "missed_messages": 0},
		{"subscriber": "b", "state": "working", "paused_seconds": null, "stalled_seconds": 3600, "messages_behind": 2,
			"applied_per_second": 1.5, "copies": 2, "dead_letters": 1, "missed_messages": 4}
	]`, subscribers())
	r.err = errors.New("no answer")
	require.JSONEq(t, `null`, subscribers())
}

// TestSubscribersAreChanged checks, for each verb, the call of the port and the answer.
func TestSubscribersAreChanged(t *testing.T) {
	for body, c := range map[string]struct {
		asked  []string
		answer string
	}{
		`{"verb": "pause"}`:  {[]string{"pause e"}, `{"subscriber": "e", "verb": "pause", "done": true}`},
		`{"verb": "resume"}`: {[]string{"resume e"}, `{"subscriber": "e", "verb": "resume", "done": true}`},
		`{"verb": "lift"}`:   {[]string{"lift e"}, `{"subscriber": "e", "verb": "lift", "done": true}`},
		`{"verb": "forget"}`: {nil, `{"subscriber": "e", "verb": "forget", "done": false}`},
		`{"verb": "forget", "confirm": true}`: {
			[]string{"forget e"}, `{"subscriber": "e", "verb": "forget", "done": true, "erased": 7}`,
		},
		`{"verb": "ignore", "type": "t", "confirm": false}`: {nil, `{"subscriber": "e", "verb": "ignore", "done": false}`},
		`{"verb": "ignore", "type": "t", "confirm": true}`: {
			[]string{"ignore e t"}, `{"subscriber": "e", "verb": "ignore", "done": true, "discarded": 3}`,
		},
		`{"verb": "lanes", "lanes": 8}`: {
			[]string{"lanes e 8"}, `{"subscriber": "e", "verb": "lanes", "done": true, "sequence": 40, "lanes": 8}`,
		},
		`{"verb": "rewind", "to": "sequence:5"}`: {
			[]string{"plan e 5 false"},
			`{"subscriber": "e", "verb": "rewind", "done": false, "sequence": 5, "lanes": 2, "lowest": 6, "highest": 9, "events": 4}`,
		},
		`{"verb": "skip", "to": "end", "confirm": true}`: {
			[]string{"plan e 0 true", "move e"},
			`{"subscriber": "e", "verb": "skip", "done": true, "sequence": 5, "lanes": 2, "lowest": 6, "highest": 9, "events": 4}`,
		},
	} {
		b, r := withRegistry(t)
		got := b.ask("POST", "/subscribers/e", body)
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.JSONEq(t, c.answer, got.body)
		require.Equal(t, c.asked, r.asked)
	}
}

// TestChangesOfSubscribersThatAreWrong checks the problems of wrong requests, and the status of each error.
func TestChangesOfSubscribersThatAreWrong(t *testing.T) {
	b, r := withRegistry(t)
	for body, blames := range map[string]string{
		`{}`:                           "verb",
		`{"verb": "stop"}`:             "must be pause",
		`{"verb": 1}`:                  "must be a string",
		`{"verb": "skip"}`:             "is required",
		`{"verb": "skip", "to": "12"}`: "sequence:N",
		`{"verb": "rewind", "to": "position:-1"}`:     "sequence:N",
		`{"verb": "pause", "to": "end"}`:              "is not known",
		`{"verb": "lanes", "lanes": "8"}`:             "must be a whole number",
		`{"verb": "ignore", "type": ""}`:              "must be a type",
		`{"verb": "forget", "confirm": "yes"}`:        "must be true or false",
		`{"verb": "forget", "confirm": true, "x": 1}`: "is not known",
	} {
		got := b.ask("POST", "/subscribers/e", body)
		require.Equal(t, http.StatusBadRequest, got.status, body)
		require.Contains(t, got.body, blames, body)
	}
	require.Empty(t, r.asked)
	for err, status := range map[error]int{
		inbox.ErrNoSubscriber: http.StatusNotFound, inbox.ErrForgotten: http.StatusConflict, operations.ErrStreamWentBack: http.StatusConflict,
		inbox.ErrStreamUnreadable: http.StatusConflict, inbox.ErrNoStream: http.StatusServiceUnavailable, errors.New("bug"): http.StatusInternalServerError,
	} {
		r.err = err
		require.Equal(t, status, b.ask("POST", "/subscribers/e", `{"verb": "pause"}`).status, err)
		require.Equal(t, status, b.ask("POST", "/subscribers/e", `{"verb": "rewind", "to": "start"}`).status, err)
	}
}
