package relaying_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// halts is every state that the relay must not repair by itself, brought about after three events were published, and after
// which of them an adoption goes on.
var halts = map[string]struct {
	reason relay.HaltReason
	cause  func(w *world)
	place  outbox.Position
	anew   bool
	gone   bool
	ghosts []uint64 // sequences
}{
	"the stream is deleted": {
		reason: relay.HaltStreamMissing, place: 0, anew: true,
		cause: func(w *world) { w.stream.Drop() },
	},
	"the stream is another one": {
		reason: relay.HaltStreamReplaced, place: 0, anew: true,
		cause: func(w *world) { w.stream.Recreate() },
	},
	"the stream is deleted, and the log begins late": {
		reason: relay.HaltStreamMissing, place: 2, anew: true,
		cause: func(w *world) {
			w.log.Purge(2)
			w.stream.Drop()
		},
	},
	"the last message is deleted": {
		reason: relay.HaltTailGone, place: 3,
		cause: func(w *world) {
			w.stream.AppendForeign()
			w.stream.Delete(4)
		},
	},
	"the stream is emptied": {
		reason: relay.HaltTailGone, place: 3,
		cause: func(w *world) {
			w.stream.AppendForeign()
			for sequence := range uint64(4) {
				w.stream.Delete(sequence + 1)
			}
		},
	},
	"an old message is copied": {
		reason: relay.HaltTailCopied, place: 3,
		cause: func(w *world) { w.stream.AppendCopy(1) },
	},
	"the stream regresses, and somebody else writes": {
		reason: relay.HaltTailForeign, place: 2,
		cause: func(w *world) {
			w.stream.Regress(2)
			w.stream.AppendForeign()
		},
	},
	"what the stream lost is purged": {
		reason: relay.HaltLogPurged, place: 3, gone: true,
		cause: func(w *world) {
			w.log.Purge(3)
			w.stream.Regress(1)
		},
	},
	"rows are deleted by hand": {
		reason: relay.HaltHistoryLost, place: 2, ghosts: []uint64{3},
		cause: func(w *world) { w.log.Delete(3) },
	},
	"the database loses commits, not only the last": {
		reason: relay.HaltHistoryLost, place: 2, ghosts: []uint64{1, 3},
		cause: func(w *world) {
			w.log.Delete(1)
			w.log.Delete(3)
		},
	},
	"the sequence starts again": {
		reason: relay.HaltSequenceBehind, place: 3,
		cause: func(w *world) {
			w.log.Purge(3)
			w.log.SetSequence(0)
		},
	},
	"the database loses commits": {
		reason: relay.HaltHistoryLost, place: 2, ghosts: []uint64{3},
		cause: func(w *world) { w.log.Forget(2) }, // the next event gets the position of the one that was lost
	},
}

// TestHalts shows that the relay halts with the reason, says so, publishes nothing, and lets others lead. After an adoption it
// goes on by itself: it publishes what the plan said, and nothing else.
func TestHalts(t *testing.T) {
	for name, test := range halts {
		t.Run(string(test.reason)+": "+name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				adopter := operating.NewAdopter(w.cursors, w.stream)
				first := w.run("first")
				w.record(t, 3)
				require.Len(t, w.stream.Entries(), 3)
				time.Sleep(2 * time.Second) // the cursor is saved
				first.crash()
				w.leave(first)
				_, err := adopter.Plan(t.Context(), nil)
				require.ErrorIs(t, err, operating.ErrNotHalted)
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
				require.Equal(t, relaying.Halted, status.State)
				require.Equal(t, published, ids(w.stream.Entries()))
				require.EqualValues(t, 1, status.Elections, "it tries to lead no more")
				_, err = memory.NewElector(w.lease, "third").Acquire(t.Context(), 0)
				require.NoError(t, err, "another one may")
				require.Equal(t, "second", w.halts.Reported()[0].Instance)
				require.Equal(t, *status.Halt, w.halts.Reported()[0].Halt.Halt)
				time.Sleep(ttl)

				plan, err := adopter.Plan(t.Context(), nil)
				require.NoError(t, err)
				require.Equal(t, *status.Halt, plan.Halt)
				require.Equal(t, test.place, plan.After.Position, plan.Why)
				require.Equal(t, test.anew, plan.OtherStream)
				require.Equal(t, test.gone, plan.Incomplete)
				var ghosts []uint64
				for _, ghost := range plan.Orphans {
					ghosts = append(ghosts, ghost.Sequence)
				}
				require.Equal(t, test.ghosts, ghosts)
				require.NoError(t, adopter.Do(t.Context(), plan))
				time.Sleep(2 * time.Second)
				require.Equal(t, relaying.Leading, second.relay.Status().State)
				require.Empty(t, w.halts.Reported())
				require.Nil(t, second.relay.Status().Halt)
				cursor, err := w.cursors.Load(t.Context())
				require.NoError(t, err)
				require.Nil(t, cursor.Halt)
				w.record(t, 2)
				for _, entry := range w.log.Committed() {
					if entry.Position > plan.After.Position {
						published = append(published, entry.ID)
					}
				}
				require.Equal(t, published, ids(w.stream.Entries()))
			})
		})
	}
}

// TestAdoptionAtAPosition goes on where the operator says, if the log can.
func TestAdoptionAtAPosition(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 5)
		time.Sleep(2 * time.Second)
		w.log.Purge(2)
		w.stream.Drop()
		time.Sleep(time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State)

		adopter := operating.NewAdopter(w.cursors, w.stream)
		for _, nowhere := range []outbox.Position{0, 1, 6} {
			_, err := adopter.Plan(t.Context(), &nowhere)
			require.ErrorIs(t, err, operating.ErrNoSuchPosition)
		}
		position := outbox.Position(4)
		plan, err := adopter.Plan(t.Context(), &position)
		require.NoError(t, err)
		require.EqualValues(t, 1, plan.Events)
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(time.Second)
		require.Equal(t, []int{-4, 5}, w.positions())
	})
}

// TestAdoptionOfAnotherStreamRedrivesAgain: what had been redriven into the former stream belongs into the new one too.
func TestAdoptionOfAnotherStreamRedrivesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		parked(t, w)
		w.stream.LimitPayload(100)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		w.stream.Recreate()
		time.Sleep(time.Second)
		adopter := operating.NewAdopter(w.cursors, w.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(time.Second)
		require.Equal(t, []int{0, 0, 1, 3, 2, 4, 5}, w.positions())
	})
}

// TestAdoptionOfAMovedStream does nothing when the stream has changed since the plan was made.
func TestAdoptionOfAMovedStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.run("leader")
		w.record(t, 3)
		w.stream.AppendCopy(1)
		time.Sleep(time.Second)
		adopter := operating.NewAdopter(w.cursors, w.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		w.stream.AppendForeign()
		require.ErrorIs(t, adopter.Do(t.Context(), plan), relay.ErrTailMoved)
		require.Equal(t, []int{1, 2, 3, 1}, w.positions())
	})
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
		require.Equal(t, relay.HaltStreamMissing, leader.relay.Status().Halt.Reason)
	})
}
