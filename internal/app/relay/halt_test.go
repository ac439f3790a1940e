package relay_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/relay"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// halts is every state that the relay must not repair by itself, brought about after three events were published, and
// what an operator does about it: the edits of docs/engine.md.
var halts = map[string]struct {
	reason outbox.HaltReason
	cause  func(w *world)
	cure   func(w *world) // nil: nothing that is still there could tell how to go on
}{
	"the stream is deleted": {
		reason: outbox.HaltStreamMissing,
		cause:  func(w *world) { w.stream.Drop() },
		cure:   func(w *world) { w.cursors.Edit(func(c *outbox.Cursor) { *c = outbox.Cursor{} }) },
	},
	"the stream is another one": {
		reason: outbox.HaltStreamReplaced,
		cause:  func(w *world) { w.stream.Recreate() },
		cure:   func(w *world) { w.cursors.Edit(func(c *outbox.Cursor) { *c = outbox.Cursor{} }) },
	},
	"the last message is deleted": {
		reason: outbox.HaltTailGone,
		cause: func(w *world) {
			w.stream.AppendForeign()
			w.stream.Delete(4)
		},
		cure: func(w *world) { w.lastPublished(3, 4) }, // the sequence of what is gone
	},
	"an old message is copied": {
		reason: outbox.HaltTailCopied,
		cause:  func(w *world) { w.stream.AppendCopy(1) },
		cure:   func(w *world) { w.lastPublished(3, 4) }, // the sequence of the copy
	},
	"the stream regresses, and somebody else writes": {
		reason: outbox.HaltTailForeign,
		cause: func(w *world) {
			w.stream.Regress(2)
			w.stream.AppendForeign()
		},
		cure: func(w *world) { w.lastPublished(2, 2) },
	},
	"what the stream lost is purged": {
		reason: outbox.HaltLogPurged,
		cause: func(w *world) {
			w.log.Purge(3)
			w.stream.Regress(1)
		},
	},
	"rows are deleted by hand": {
		reason: outbox.HaltHistoryLost,
		cause:  func(w *world) { w.log.Delete(3) },
		cure:   func(w *world) { w.log.Purge(3) }, // purged_to = position
	},
	"the database loses commits": {
		reason: outbox.HaltHistoryLost,
		cause:  func(w *world) { w.log.Forget(2) }, // the next event gets the position of the one that was lost
	},
}

// lastPublished tells the relay which event was published last, and where.
func (w *world) lastPublished(position outbox.Position, sequence uint64) {
	w.cursors.Edit(func(c *outbox.Cursor) { c.Position, c.StreamSequence = position, sequence })
}

// TestHalts shows that the relay halts with the reason, publishes nothing, and keeps its lease. After the cure, where there
// is one, it goes on by itself: it publishes what the stream does not have, and nothing that it has.
func TestHalts(t *testing.T) {
	for name, test := range halts {
		t.Run(string(test.reason)+": "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				first := w.run("first")
				w.record(t, 3)
				require.Len(t, w.stream.Entries(), 3)
				time.Sleep(2 * time.Second) // the cursor is saved
				first.crash()
				w.leave(first)
				test.cause(w)
				tx, ok := w.begin(1, 1)
				require.True(t, ok)
				w.end(tx, true)
				published := ids(w.stream.Entries())

				second := w.run("second")
				time.Sleep(time.Minute)
				status := second.relay.Status()
				require.NotNil(t, status.Halt, "%+v", status)
				require.Equal(t, test.reason, status.Halt.Reason, status.Halt.Detail)
				require.Equal(t, relay.Halted, status.State)
				require.Equal(t, published, ids(w.stream.Entries()))
				holder, _ := w.lease.Holder()
				require.Equal(t, "second", holder)
				if test.cure == nil {
					return
				}

				test.cure(w)
				time.Sleep(time.Second)
				require.Equal(t, relay.Leading, second.relay.Status().State)
				require.Nil(t, second.relay.Status().Halt)
				w.record(t, 2)
				missing := slices.DeleteFunc(ids(w.log.Committed()), func(id string) bool { return slices.Contains(published, id) })
				require.GreaterOrEqual(t, len(missing), 3)
				require.Equal(t, append(published, missing...), ids(w.stream.Entries()))
			})
		})
	}
}

func ids(entries []outbox.Entry) []string {
	var ids []string
	for _, entry := range entries {
		ids = append(ids, entry.ID)
	}
	return ids
}

// TestRunningLeaderHalts shows that a leader notices a stream that is gone while there is nothing to publish.
func TestRunningLeaderHalts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 1)
		w.stream.Drop()
		time.Sleep(2 * time.Second)
		require.Equal(t, outbox.HaltStreamMissing, leader.relay.Status().Halt.Reason)
	})
}
