package relaying_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// rollBack leaves count gaps in the log.
func (h *harness) rollBack(t *testing.T, count int) {
	t.Helper()
	tx, ok := h.begin(4, count)
	require.True(t, ok)
	h.end(tx, false)
}

// requireSetBack requires that the leader has halted because of the sequence, and that operators see it.
func (h *harness) requireSetBack(t *testing.T, leader *instance) {
	t.Helper()
	status := leader.relay.Status()
	require.NotNil(t, status.Halt, "%+v", status)
	require.Equal(t, relay.HaltSequenceBehind, status.Halt.Reason, status.Halt.Detail)
	require.Equal(t, relaying.Halted, status.State)
	cursor, err := h.cursors.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, status.Halt.Reason, cursor.Halt.Reason)
}

// requireRepaired adopts, and requires that the relay publishes each event once and in order, and new events too.
func (h *harness) requireRepaired(t *testing.T) {
	t.Helper()
	h.adopt(t)
	h.requireWell(t)
}

func (h *harness) requireWell(t *testing.T) {
	t.Helper()
	time.Sleep(5 * time.Second)
	h.record(t, 2)
	time.Sleep(5 * time.Second)
	require.Empty(t, h.check(nil, true))
	found, err := h.cursors.CheckSequence(t.Context())
	require.NoError(t, err)
	require.False(t, found.NeedsRepair(), "%+v", found)
}

const overtaken = "it has overtaken the relay, within an aggregate"

// setBacks are ways in which the sequence of a log goes back. Before that, the log has six positions: 1 and 2 were purged, 4 and 5 are
// gaps, and 3 and 6 were published.
var setBacks = map[string]struct {
	cause func(t *testing.T, h *harness)
	lost  int64 // number of events that the relay would never have read
}{
	"everything was purged": {func(t *testing.T, h *harness) {
		h.log.Purge(6)
		h.log.SetSequence(0)
		h.record(t, 3)
	}, 3},
	"no event came yet": {func(_ *testing.T, h *harness) {
		h.log.Purge(6)
		h.log.SetSequence(0)
	}, 0},
	"the rows are kept": {func(t *testing.T, h *harness) {
		h.log.SetSequence(2)
		message := outbox.Message{
			ID: "refused", Type: "test.v1", Subject: "things.happened", Key: outbox.Key{Type: "thing", ID: "other"}, Version: 1, Payload: []byte(`{}`),
		}
		writer := h.log.Begin()
		require.ErrorIs(t, writer.Append(t.Context(), message), relay.ErrSequenceBehind)
		writer.Rollback()
		h.record(t, 1) // in the gap
	}, 1},
	overtaken: {func(t *testing.T, h *harness) {
		h.log.SetSequence(0)
		h.record(t, 2) // at the positions of purged events
		h.log.SetSequence(6)
		h.record(t, 2)
	}, 2},
	"it has overtaken the relay by a gap": {func(t *testing.T, h *harness) {
		h.log.SetSequence(3)
		h.record(t, 1)
		h.log.SetSequence(6)
		h.write(t, 1, `{}`)
		h.write(t, 2, `{}`)
	}, 1},
}

// published lets a leader publish the events with which setBacks begin.
func (h *harness) published(t *testing.T) *instance {
	t.Helper()
	leader := h.run("leader")
	h.record(t, 3)
	h.rollBack(t, 2)
	h.record(t, 1)
	time.Sleep(2 * time.Second) // the cursor is saved
	h.log.Purge(2)
	return leader
}

// TestSequenceGoesBackBeforeATakeOver checks that the next leader notices the sequence before it writes or publishes anything.
func TestSequenceGoesBackBeforeATakeOver(t *testing.T) {
	for name, test := range setBacks {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				leader := h.published(t)
				leader.crash()
				h.leave(leader)
				test.cause(t, h)
				published := len(h.stream.Messages())
				second := h.run("second")
				time.Sleep(time.Minute)
				h.requireSetBack(t, second)
				require.Len(t, h.stream.Messages(), published)
				found, err := h.cursors.CheckSequence(t.Context())
				require.NoError(t, err)
				require.Equal(t, test.lost, found.Misplaced)
				h.requireRepaired(t)
			})
		})
	}
}

// TestSequenceGoesBackUnderALeader checks that a busy leader notices when it saves its cursor, and an idle leader by its own check.
func TestSequenceGoesBackUnderALeader(t *testing.T) {
	for name, test := range setBacks {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				leader := h.published(t)
				test.cause(t, h)
				time.Sleep(3 * time.Second)
				h.requireSetBack(t, leader)
				h.adopt(t)
				time.Sleep(5 * time.Second)
				h.record(t, 1)
				time.Sleep(5 * time.Second)
				failed := h.check(nil, true)
				if name == overtaken { // a later version is published before the leader notices, up to a second later
					delete(failed, checkOrder)
				}
				require.Empty(t, failed)
			})
		})
	}
}

// TestSequenceGoesBackWithinASecond checks that an event which appears above the saved cursor, but where the leader has already passed, is
// noticed when the cursor is saved, or at the next take-over.
func TestSequenceGoesBackWithinASecond(t *testing.T) {
	for name, crash := range map[string]bool{"the leader goes on": false, "the leader dies": true} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				leader := h.published(t)
				h.rollBack(t, 1)
				h.record(t, 1)
				time.Sleep(100 * time.Millisecond) // the event is published, and the cursor is not saved yet
				h.log.SetSequence(6)
				h.write(t, 1, `{}`)
				h.log.SetSequence(8)
				if crash {
					leader.crash()
					h.leave(leader)
					leader = h.run("second")
				} else {
					h.write(t, 2, `{}`)
				}
				time.Sleep(10 * time.Second)
				h.requireSetBack(t, leader)
				h.requireRepaired(t)
			})
		})
	}
}

// TestSequenceIsRepairedBeforeAnybodyNotices checks that an operator can see and repair a sequence that went back, while no relay runs.
func TestSequenceIsRepairedBeforeAnybodyNotices(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.published(t)
		leader.crash()
		h.leave(leader)
		h.log.Purge(6)
		h.log.SetSequence(0)
		h.record(t, 3)
		h.requirePlanned(t, 3)
		h.adopt(t)
		h.run("second")
		h.requireWell(t)
	})
}

func (h *harness) requirePlanned(t *testing.T, misplaced int64) {
	t.Helper()
	plan, err := operating.NewAdopter(h.cursors, h.stream).Plan(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, relay.HaltSequenceBehind, plan.Halt.Reason)
	require.Equal(t, misplaced, plan.Sequence.Misplaced)
}

// TestRealignmentThatDies checks that an adoption can be done again if it died after its control message or after it moved the events. If
// the adoption died before it moved the events, a leader halts as before.
func TestRealignmentThatDies(t *testing.T) {
	for name, test := range map[string]struct {
		repair func(h *harness) operations.RelayRepair
		halted bool
	}{
		"after the notice":            {func(h *harness) operations.RelayRepair { return crashBeforeRealign{h.cursors} }, true},
		"after the events were moved": {func(h *harness) operations.RelayRepair { return crashBeforeAdopt{h.cursors} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				leader := h.published(t)
				setBacks["it has overtaken the relay by a gap"].cause(t, h)
				time.Sleep(3 * time.Second)
				h.requireSetBack(t, leader)
				adopter := operating.NewAdopter(test.repair(h), h.stream)
				plan, err := adopter.Plan(t.Context(), nil)
				require.NoError(t, err)
				require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
				time.Sleep(10 * time.Second)
				if !test.halted { // the control message in the stream says where the relay goes on
					h.requireWell(t)
					return
				}
				h.requireSetBack(t, leader)
				h.write(t, 3, `{}`)
				h.requireRepaired(t)
			})
		})
	}
}

// crashBeforeRealign is a database of an operator who dies before the events are moved.
type crashBeforeRealign struct{ operations.RelayRepair }

func (crashBeforeRealign) Realign(context.Context, operations.Realignment) (int64, error) {
	return 0, errDead
}

// TestAnotherHaltIsRepairedWithTheSequence checks that an adoption repairs the sequence of the log too, whatever the reason for the halt.
func TestAnotherHaltIsRepairedWithTheSequence(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.published(t)
		h.halted(t, leader, relay.HaltTailCopied, func() { h.stream.AppendCopy(1) })
		h.log.SetSequence(3)
		h.write(t, 0, `{}`)
		h.log.SetSequence(6)
		synctest.Wait()
		h.adopt(t)
		time.Sleep(10 * time.Second)
		failed := h.check(nil, true)
		delete(failed, checkOnce) // the copy
		delete(failed, checkOrder)
		require.Empty(t, failed)
	})
}
