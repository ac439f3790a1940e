package relaying_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// forgeries are messages with the relay's headers that somebody else stores after three events were published. The forger knows only
// what is in the stream.
var forgeries = map[string]struct {
	meta relay.MessageMeta
	halt relay.HaltReason // empty: the relay goes on
}{
	"an event above the log": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 99, EventID: "forged"}, Event: 99}, relay.HaltHistoryLost,
	},
	"an event at the next position": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 4, EventID: "forged"}, Event: 4}, relay.HaltHistoryLost,
	},
	"another event at the last position": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 3, EventID: "forged"}, Event: 3}, relay.HaltHistoryLost,
	},
	"an old event": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 1, EventID: "forged"}, Event: 1}, relay.HaltTailCopied,
	},
	"a redriven event": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 2, EventID: "forged"}, Event: 1, Redriven: true}, "",
	},
	"a redriven event above the log": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 99, EventID: "forged"}, Event: 1, Redriven: true}, relay.HaltHistoryLost,
	},
	"a notice of parking": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 2, EventID: "forged"}, Parked: "too large"}, "",
	},
	"a notice of parking above the log": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 99, EventID: "forged"}, Parked: "too large"}, relay.HaltHistoryLost,
	},
	"a confirmation": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 1, EventID: "forged"}, Confirms: true}, "",
	},
	"a confirmation above the log": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 99, EventID: "forged"}, Confirms: true}, relay.HaltHistoryLost,
	},
	"an adoption": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 1, EventID: "forged"}}, relay.HaltTailCopied,
	},
	"an adoption above the log": {
		relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 99, EventID: "forged"}}, relay.HaltHistoryLost,
	},
}

// TestForgedMessages checks that somebody who may publish into the stream can at most make the relay halt. No event is lost or doubled, and
// an adoption goes on after the last event that both log and stream hold.
func TestForgedMessages(t *testing.T) {
	for name, forgery := range forgeries {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				leader := h.run("leader")
				h.record(t, 3)
				time.Sleep(2 * time.Second) // the cursor is saved
				h.stream.Forge(forgery.meta)
				h.record(t, 2)
				time.Sleep(2 * time.Second)
				if status := leader.relay.Status(); forgery.halt == "" {
					require.Equal(t, relaying.Leading, status.State, "%+v", status.Halt)
				} else {
					require.Equal(t, forgery.halt, status.Halt.Reason)
					adopter := operating.NewAdopter(h.cursors, h.stream)
					plan, err := adopter.Plan(t.Context(), nil)
					require.NoError(t, err)
					require.NoError(t, adopter.Do(t.Context(), plan))
				}
				time.Sleep(5 * time.Second)
				h.record(t, 2)
				time.Sleep(5 * time.Second)
				var genuine []string
				for _, entry := range h.stream.Entries() {
					if entry.ID != "" {
						genuine = append(genuine, entry.ID)
					}
				}
				require.Equal(t, ids(h.log.Committed()), genuine)
			})
		})
	}
}
