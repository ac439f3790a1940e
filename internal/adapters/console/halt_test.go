package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// adopter is a fake adoption of the relay. It records what it is asked for and how often it was carried out.
type adopter struct {
	asked   []string
	version string
	done    int
	err     error // of the plan
	failed  error // of Do
}

func (a *adopter) plan(_ context.Context, position *outbox.Position, accept bool) (console.Adoption, error) {
	at := "nil"
	if position != nil {
		at = fmt.Sprint(*position)
	}
	a.asked = append(a.asked, fmt.Sprint(at, " ", accept))
	return console.Adoption{
		Text: "An adoption would\n  - go on after position 7, event <b>x</b>", Version: a.version,
		Do: func(context.Context) error { a.done++; return a.failed },
	}, a.err
}

func haltedReading(now time.Time) operations.View {
	return operations.View{Reading: operations.Reading{At: now, Relay: operations.RelayStatus{
		Now: now, Halt: &operations.RecordedHalt{Halt: relay.Halt{Reason: relay.HaltTailGone, Detail: "<b>gone</b>"}, Since: now.Add(-time.Hour)},
	}}}
}

// TestHaltPage checks the page for a halted relay, for one whose sequence went back, and for one that works.
func TestHaltPage(t *testing.T) {
	now := time.Now()
	checks := func(context.Context) []console.Check {
		return []console.Check{{Name: "postgres", Required: true}, {Name: "<b>nats", Err: errors.New("<i>no\nanswer")}}
	}
	status, body := open(t, console.Options{Watcher: stillWatcher{haltedReading(now)}, Checks: checks}).get("/halt")
	require.Equal(t, http.StatusOK, status)
	for _, text := range []string{"halted: tail_gone, for 1h0m", "&lt;b&gt;gone&lt;/b&gt;", "outboxie outbox adopt", `action="/console/actions/adopt"`, `for="position"`, "accept_repeats"} {
		require.Contains(t, body, text)
	}

	back := operations.View{Reading: operations.Reading{At: now, Relay: operations.RelayStatus{Now: now, SequenceCheck: operations.SequenceCheck{Misplaced: 2}}}}
	_, body = open(t, console.Options{Watcher: stillWatcher{back}}).get("/halt")
	require.Contains(t, body, "set back: the sequence of outbox.position went back")
	require.Contains(t, body, "actions/adopt")

	works := operations.View{Reading: operations.Reading{At: now, Relay: operations.RelayStatus{Now: now, Leader: &operations.Leader{Holder: "app1"}}}}
	_, body = open(t, console.Options{Watcher: stillWatcher{works}, Checks: checks}).get("/halt")
	require.Contains(t, body, "The relay is not halted, so there is nothing to repair.")
	require.NotContains(t, body, "actions/adopt")
	for _, text := range []string{"postgres", "passed", "failed", "&lt;i&gt;no answer", "&lt;b&gt;nats", "(not required)"} {
		require.Contains(t, body, text)
	}

	_, body = open(t, console.Options{}).get("/halt")
	require.Contains(t, body, "The first reading is on its way")
	require.Contains(t, body, "actions/adopt")
	_, body = open(t, console.Options{Watcher: stillWatcher{operations.View{Err: errors.New("down")}}}).get("/halt")
	require.Contains(t, body, "The state cannot be read: down")
}

// TestLivePartOfHaltPageChecksNothing checks that the part that refreshes runs no checks, so viewers make no work.
func TestLivePartOfHaltPageChecksNothing(t *testing.T) {
	b := open(t, console.Options{
		Watcher: stillWatcher{haltedReading(time.Now())},
		Checks:  func(context.Context) []console.Check { t.Error("checked"); return nil },
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.base+console.Path+"/halt", nil)
	require.NoError(t, err)
	request.Header.Set("HX-Request", "true")
	status, body := b.read(b.client.Do(request))
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "halted: tail_gone")
	require.NotContains(t, body, "<form")
}

// TestAdoption checks an adoption in all its steps: the plan is shown twice, and the last step carries it out with the same fields.
func TestAdoption(t *testing.T) {
	a := &adopter{version: "one"}
	b := open(t, console.Options{Watcher: stillWatcher{haltedReading(time.Now())}, Adopt: a.plan})
	pages := b.steps("adopt", true, func() { require.Zero(t, a.done) }, "position", " 7 ", "accept_repeats", "yes")
	for _, page := range pages[:2] {
		require.Contains(t, page, "go on after position 7, event &lt;b&gt;x&lt;/b&gt;")
	}
	require.Contains(t, pages[1], "This cannot be undone. Really?")
	require.Contains(t, pages[2], "Done. An instance goes on within the poll interval: outboxie outbox status")
	require.Contains(t, pages[2], "Halt of the relay")
	require.Equal(t, 1, a.done)
	require.Equal(t, []string{"7 true", "7 true", "7 true"}, a.asked)

	b.steps("adopt", true, func() {}, "position", "")
	require.Equal(t, "nil false", a.asked[len(a.asked)-1])
}

// TestAdoptionWhosePlanChanged checks that the last step does nothing if the plan is not the confirmed one any more.
func TestAdoptionWhosePlanChanged(t *testing.T) {
	a := &adopter{version: "one"}
	b := open(t, console.Options{Watcher: stillWatcher{haltedReading(time.Now())}, Adopt: a.plan})
	_, body := b.post("/actions/adopt")
	_, body = b.post("/actions/adopt", fieldsOf(body)...)
	a.version = "two"
	status, changed := b.post("/actions/adopt", fieldsOf(body)...)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, changed, "nothing was done, because the plan has changed since it was shown")
	require.Zero(t, a.done)
	status, body = b.post("/actions/adopt", "step", "do")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "the form has no plan that was shown")
	require.Zero(t, a.done)
}

// TestRefusedAdoption checks that the texts of refusals are shown as they are, and that wrong fields are named.
func TestRefusedAdoption(t *testing.T) {
	a := &adopter{version: "one"}
	b := open(t, console.Options{Watcher: stillWatcher{haltedReading(time.Now())}, Adopt: a.plan})
	for _, position := range []string{"-1", "x", "1.5", strings.Repeat("9", 19)} {
		status, body := b.post("/actions/adopt", "position", position)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, body, "must be a whole number from 0 on")
	}
	status, body := b.post("/actions/adopt", "accept_repeats", "no")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "accept_repeats must be yes or missing")
	require.Empty(t, a.asked)

	refused := fault.New(fault.Refused, "sequences_repeat", "the stream <b>repeats</b> sequences")
	a.err = fmt.Errorf("%w; or stop every instance and use --accept-repeats", refused)
	status, body = b.post("/actions/adopt")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "the stream &lt;b&gt;repeats&lt;/b&gt; sequences; or stop every instance and use --accept-repeats")
	a.err, a.failed = nil, refused
	status, body = b.post("/actions/adopt", "step", "do", "version", "one")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "sequences")
}
