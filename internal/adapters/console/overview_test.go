package console_test

import (
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
