package console_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestOverview checks that the first page shows the state of the relay with its repair, and what it shows before the first reading and in an
// outage.
func TestOverview(t *testing.T) {
	now := time.Now()
	halted := operations.Reading{At: now.Add(-time.Minute), Relay: operations.RelayStatus{
		Now: now, Halt: &operations.RecordedHalt{Halt: relay.Halt{Reason: relay.HaltTailGone, Detail: "<b>gone</b>"}, Since: now.Add(-time.Hour)},
	}}
	status, body := open(t, console.Options{Watcher: stillWatcher{operations.View{Reading: halted}}}).get("")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "halted: tail_gone, for 1h0m")
	require.Contains(t, body, "&lt;b&gt;gone&lt;/b&gt;")
	require.Contains(t, body, "outboxie outbox adopt")

	_, body = open(t, console.Options{}).get("/")
	require.Contains(t, body, "The first reading is on its way")

	outage := operations.View{Reading: halted, Err: fault.New(fault.Unavailable, "down", "no database")}
	_, body = open(t, console.Options{Watcher: stillWatcher{outage}}).get("")
	require.Contains(t, body, "The state cannot be read: no database. What is shown is 1m0s old")
	require.Contains(t, body, "halted: tail_gone")
	_, body = open(t, console.Options{Watcher: stillWatcher{operations.View{Err: errors.New("down")}}}).get("")
	require.Contains(t, body, "The state cannot be read: down")
}

// TestMissingRight checks that pages show what the database role of the process may read, and say in words which statement grants the rest. Every
// page and action that is refused says so too.
func TestMissingRight(t *testing.T) {
	const grant = "GRANT outboxie_operator TO outboxie_writer"
	now := time.Now()
	forbidden := operations.ErrNoRight.Wrap(errors.New("permission denied for table <subscribers>"))
	watcher := stillWatcher{operations.View{Reading: operations.Reading{At: now, Relay: operations.RelayStatus{Now: now, LastPosition: 7}, Unreadable: forbidden}}}
	b := open(t, console.Options{Watcher: watcher, Grant: grant, DeadGroups: noRight{forbidden}, Subscribers: noSubscribers{err: forbidden}})
	for _, path := range []string{"", "/subscribers", "/letters"} {
		status, body := b.get(path)
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, "The subscribers cannot be read: the database role of this process has no right to do this: permission denied for table &lt;subscribers&gt;.")
		require.Contains(t, body, grant)
		require.NotContains(t, body, "has begun")
		require.NotContains(t, body, "There are no")
	}
	_, body := b.get("")
	require.Contains(t, body, "up to position 7")
	for _, path := range []string{"/letters/emails", "/subscribers/emails"} {
		status, body := b.get(path)
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, body, grant)
	}
	status, body := b.post("/actions/letters-retry", "subscriber", "emails", "all", "true")
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, grant)
	_, body = open(t, console.Options{Watcher: watcher}).get("")
	require.Contains(t, body, "GRANT outboxie_operator TO the role")
}

// noRight fails because a right is missing.
type noRight struct{ err error }

func (n noRight) ForSubscriber(context.Context, string) (operations.UndecidedEventsAdmin, error) {
	return nil, n.err
}

// noSubscribers cannot read the subscribers.
type noSubscribers struct {
	operations.SubscriberAdmin
	err error
}

func (n noSubscribers) Summaries(context.Context, uint64) ([]operations.SubscriberSummary, error) {
	return nil, n.err
}
