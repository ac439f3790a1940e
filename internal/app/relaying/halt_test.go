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

// haltCase is a state that the relay must not repair by itself. place, newStream, gone and ghosts are the plan of an adoption.
type haltCase struct {
	reason    relay.HaltReason
	cause     func(h *harness)
	place     outbox.Position
	newStream bool
	gone      bool
	ghosts    []uint64 // sequences of messages whose events the log does not have
}

// halts has every such state. The test causes each state after three events were published.
var halts = map[string]haltCase{
	"the stream is deleted": {
		reason: relay.HaltStreamMissing, place: 0, newStream: true,
		cause: func(h *harness) { h.stream.Drop() },
	},
	"the stream is another one": {
		reason: relay.HaltStreamReplaced, place: 0, newStream: true,
		cause: func(h *harness) { h.stream.Recreate() },
	},
	"the stream is deleted, and the log begins late": {
		reason: relay.HaltStreamMissing, place: 2, newStream: true,
		cause: func(h *harness) {
			h.log.Purge(2)
			h.stream.Drop()
		},
	},
	"the last message is deleted": {
		reason: relay.HaltTailGone, place: 3,
		cause: func(h *harness) {
			h.stream.AppendForeign()
			h.stream.Delete(4)
		},
	},
	"the stream is emptied": {
		reason: relay.HaltTailGone, place: 3,
		cause: func(h *harness) {
			h.stream.AppendForeign()
			for sequence := range uint64(4) {
				h.stream.Delete(sequence + 1)
			}
		},
	},
	"an old message is copied": {
		reason: relay.HaltTailCopied, place: 3,
		cause: func(h *harness) { h.stream.AppendCopy(1) },
	},
	"the stream regresses, and somebody else writes": {
		reason: relay.HaltTailForeign, place: 2,
		cause: func(h *harness) {
			h.stream.LoseAfter(2)
			h.stream.AppendForeign()
		},
	},
	"what the stream lost is purged": {
		reason: relay.HaltLogPurged, place: 3, gone: true,
		cause: func(h *harness) {
			h.log.Purge(3)
			h.stream.LoseAfter(1)
		},
	},
	"rows are deleted by hand": {
		reason: relay.HaltHistoryLost, place: 2, ghosts: []uint64{3},
		cause: func(h *harness) { h.log.Delete(3) },
	},
	"the database loses commits, not only the last": {
		reason: relay.HaltHistoryLost, place: 2, ghosts: []uint64{1, 3},
		cause: func(h *harness) {
			h.log.Delete(1)
			h.log.Delete(3)
		},
	},
	"the sequence starts again": {
		reason: relay.HaltSequenceBehind, place: 3,
		cause: func(h *harness) {
			h.log.Purge(3)
			h.log.SetSequence(0)
		},
	},
	"the database loses commits": {
		reason: relay.HaltHistoryLost, place: 2, ghosts: []uint64{3},
		cause: func(h *harness) { h.log.LoseAfter(2) }, // the next event gets the position of the lost event
	},
}

// TestHalts checks that the relay halts with the reason, reports it, publishes nothing, and lets others lead. After an adoption it goes on
// by itself: it publishes the events of the plan, and no others.
func TestHalts(t *testing.T) {
	for name, test := range halts {
		t.Run(string(test.reason)+": "+name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				adopter, halted, published := requireHalt(t, h, test)
				requireRepair(t, h, test, adopter, halted, published)
			})
		})
	}
}

// requireHalt causes the state, and checks that the next leader halts. It returns this leader, and the ids of the published events.
func requireHalt(t *testing.T, h *harness, test haltCase) (adopter *operating.Adopter, second *instance, published []string) {
	t.Helper()
	adopter = operating.NewAdopter(h.cursors, h.stream)
	first := h.run("first")
	h.record(t, 3)
	require.Len(t, h.stream.Entries(), 3)
	time.Sleep(2 * time.Second) // the cursor is saved
	first.crash()
	h.leave(first)
	_, err := adopter.Plan(t.Context(), nil)
	require.ErrorIs(t, err, operating.ErrNotHalted)
	test.cause(h)
	tx, ok := h.begin(1, 1)
	require.True(t, ok)
	h.end(tx, true)
	published = ids(h.stream.Entries())

	second = h.run("second")
	time.Sleep(time.Minute)
	status := second.relay.Status()
	require.NotNil(t, status.Halt, "%+v", status)
	require.Equal(t, test.reason, status.Halt.Reason, status.Halt.Detail)
	require.Equal(t, relaying.Halted, status.State)
	require.Equal(t, published, ids(h.stream.Entries()))
	require.EqualValues(t, 1, status.Elections, "it does not ask for the lease again")
	_, err = memory.NewElector(h.lease, "third").Acquire(t.Context(), 0)
	require.NoError(t, err, "another instance may lead")
	require.Equal(t, "second", h.halts.Reported()[0].Instance)
	require.Equal(t, *status.Halt, h.halts.Reported()[0].Halt)
	time.Sleep(ttl)
	return adopter, second, published
}

// requireRepair checks that an adoption repairs the state.
func requireRepair(t *testing.T, h *harness, test haltCase, adopter *operating.Adopter, second *instance, published []string) {
	t.Helper()
	plan, err := adopter.Plan(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, *second.relay.Status().Halt, plan.Halt)
	require.Equal(t, test.place, plan.After.Position, plan.Why)
	require.Equal(t, test.newStream, plan.OtherStream)
	require.Equal(t, test.gone, plan.Incomplete)
	var ghosts []uint64
	for _, ghost := range plan.Orphans {
		ghosts = append(ghosts, ghost.Sequence)
	}
	require.Equal(t, test.ghosts, ghosts)
	h.record(t, 1)
	again, err := adopter.Plan(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, plan.Version(), again.Version(), "a person can confirm a plan while orders are written")
	require.NoError(t, adopter.Do(t.Context(), plan))
	time.Sleep(2 * time.Second)
	require.Equal(t, relaying.Leading, second.relay.Status().State)
	require.Empty(t, h.halts.Reported())
	require.Nil(t, second.relay.Status().Halt)
	cursor, err := h.cursors.Load(t.Context())
	require.NoError(t, err)
	require.Nil(t, cursor.Halt)
	h.record(t, 2)
	for _, entry := range h.log.Committed() {
		if entry.Position > plan.After.Position {
			published = append(published, entry.ID)
		}
	}
	require.Equal(t, published, ids(h.stream.Entries()))
}

// TestAdoptionAtAPosition checks that the relay goes on after the position that the operator gives, and that an impossible position is
// refused.
func TestAdoptionAtAPosition(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 5)
		time.Sleep(2 * time.Second)
		h.log.Purge(2)
		h.stream.Drop()
		time.Sleep(time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State)

		adopter := operating.NewAdopter(h.cursors, h.stream)
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
		require.Equal(t, []int{-4, 5}, h.positions())
	})
}

// TestAdoptionOfAnotherStreamRedrivesAgain checks that events which were redriven into a former stream are redriven into the new one.
func TestAdoptionOfAnotherStreamRedrivesAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		parked(t, h)
		h.stream.LimitPayload(100)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		h.stream.Recreate()
		time.Sleep(time.Second)
		adopter := operating.NewAdopter(h.cursors, h.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(time.Second)
		require.Equal(t, []int{0, 0, 1, 3, 2, 4, 5}, h.positions())
	})
}

// TestAdoptionOfAMovedStream checks that an adoption changes nothing if the stream has changed since the plan.
func TestAdoptionOfAMovedStream(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		h.record(t, 3)
		h.stream.AppendCopy(1)
		time.Sleep(time.Second)
		adopter := operating.NewAdopter(h.cursors, h.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		h.stream.AppendForeign()
		require.ErrorIs(t, adopter.Do(t.Context(), plan), relay.ErrTailMoved)
		require.Equal(t, []int{1, 2, 3, 1}, h.positions())
	})
}

func ids(entries []outbox.Entry) []string {
	var ids []string
	for _, entry := range entries {
		ids = append(ids, entry.ID)
	}
	return ids
}

// TestRunningLeaderHalts checks that an idle leader notices that the stream was deleted.
func TestRunningLeaderHalts(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 1)
		h.stream.Drop()
		time.Sleep(2 * time.Second)
		require.Equal(t, relay.HaltStreamMissing, leader.relay.Status().Halt.Reason)
	})
}
