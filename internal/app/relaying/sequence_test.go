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

// rollBack leaves gaps in the log.
func (w *world) rollBack(t *testing.T, count int) {
	t.Helper()
	tx, ok := w.begin(4, count)
	require.True(t, ok)
	w.end(tx, false)
}

// requireSetBack demands that the leader has halted because of the sequence, and that operators see it.
func (w *world) requireSetBack(t *testing.T, leader *instance) {
	t.Helper()
	status := leader.relay.Status()
	require.NotNil(t, status.Halt, "%+v", status)
	require.Equal(t, relay.HaltSequenceBehind, status.Halt.Reason, status.Halt.Detail)
	require.Equal(t, relaying.Halted, status.State)
	cursor, err := w.cursors.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, status.Halt.Reason, cursor.Halt.Reason)
}

// requireRepaired adopts, and demands that every event is published once, in order, and that new ones are, too.
func (w *world) requireRepaired(t *testing.T) {
	t.Helper()
	w.adopt(t)
	w.requireWell(t)
}

func (w *world) requireWell(t *testing.T) {
	t.Helper()
	time.Sleep(5 * time.Second)
	w.record(t, 2)
	time.Sleep(5 * time.Second)
	require.Empty(t, w.judge(nil, true))
	found, err := w.cursors.CheckSequence(t.Context())
	require.NoError(t, err)
	require.False(t, found.NeedsRepair(), "%+v", found)
}

const overtaken = "it has overtaken the relay, within an aggregate"

// setBacks are ways in which the sequence of a log goes back: of six positions the first two were purged, four and five are
// gaps, and all else was published.
var setBacks = map[string]struct {
	cause func(t *testing.T, w *world)
	lost  int64 // events that the relay would never have looked at
}{
	"everything was purged": {func(t *testing.T, w *world) {
		w.log.Purge(6)
		w.log.SetSequence(0)
		w.record(t, 3)
	}, 3},
	"no event came yet": {func(_ *testing.T, w *world) {
		w.log.Purge(6)
		w.log.SetSequence(0)
	}, 0},
	"the rows are kept": {func(t *testing.T, w *world) {
		w.log.SetSequence(2)
		message := outbox.Message{
			ID: "refused", Type: "test.v1", Subject: "orders.created", Key: outbox.Key{Type: "order", ID: "other"}, Version: 1, Payload: []byte(`{}`),
		}
		writer := w.log.Begin()
		require.ErrorIs(t, writer.Append(t.Context(), message), relay.ErrSequenceBehind)
		writer.Rollback()
		w.record(t, 1) // in the gap
	}, 1},
	overtaken: {func(t *testing.T, w *world) {
		w.log.SetSequence(0)
		w.record(t, 2) // in place of purged ones
		w.log.SetSequence(6)
		w.record(t, 2)
	}, 2},
	"it has overtaken the relay by a gap": {func(t *testing.T, w *world) {
		w.log.SetSequence(3)
		w.record(t, 1)
		w.log.SetSequence(6)
		w.write(t, 1, `{}`)
		w.write(t, 2, `{}`)
	}, 1},
}

// published lets a leader publish what setBacks begin with.
func (w *world) published(t *testing.T) *instance {
	t.Helper()
	leader := w.run("leader")
	w.record(t, 3)
	w.rollBack(t, 2)
	w.record(t, 1)
	time.Sleep(2 * time.Second) // the cursor is saved
	w.log.Purge(2)
	return leader
}

// TestSequenceGoesBackBeforeATakeOver shows that the next leader notices, before it writes or publishes anything.
func TestSequenceGoesBackBeforeATakeOver(t *testing.T) {
	for name, test := range setBacks {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				leader := w.published(t)
				leader.crash()
				w.leave(leader)
				test.cause(t, w)
				published := len(w.stream.Messages())
				second := w.run("second")
				time.Sleep(time.Minute)
				w.requireSetBack(t, second)
				require.Len(t, w.stream.Messages(), published)
				found, err := w.cursors.CheckSequence(t.Context())
				require.NoError(t, err)
				require.Equal(t, test.lost, found.Misplaced)
				w.requireRepaired(t)
			})
		})
	}
}

// TestSequenceGoesBackUnderALeader shows that a leader that has something to publish notices when it saves its cursor, and an idle one
// because it asks.
func TestSequenceGoesBackUnderALeader(t *testing.T) {
	for name, test := range setBacks {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				leader := w.published(t)
				test.cause(t, w)
				time.Sleep(3 * time.Second)
				w.requireSetBack(t, leader)
				w.adopt(t)
				time.Sleep(5 * time.Second)
				w.record(t, 1)
				time.Sleep(5 * time.Second)
				failed := w.judge(nil, true)
				if name == overtaken { // a later version is published before the second is over
					delete(failed, checkOrder)
				}
				require.Empty(t, failed)
			})
		})
	}
}

// TestSequenceGoesBackWithinASecond shows that what comes between the saved cursor and the place, after the leader has passed, shows
// when the cursor is saved, or at the next take-over.
func TestSequenceGoesBackWithinASecond(t *testing.T) {
	for name, crash := range map[string]bool{"the leader goes on": false, "the leader dies": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				leader := w.published(t)
				w.rollBack(t, 1)
				w.record(t, 1)
				time.Sleep(100 * time.Millisecond) // it is published, and the cursor not saved
				w.log.SetSequence(6)
				w.write(t, 1, `{}`)
				w.log.SetSequence(8)
				if crash {
					leader.crash()
					w.leave(leader)
					leader = w.run("second")
				} else {
					w.write(t, 2, `{}`)
				}
				time.Sleep(10 * time.Second)
				w.requireSetBack(t, leader)
				w.requireRepaired(t)
			})
		})
	}
}

// TestSequenceIsRepairedBeforeAnybodyNotices shows that an operator may see it before a relay does, if none runs.
func TestSequenceIsRepairedBeforeAnybodyNotices(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.published(t)
		leader.crash()
		w.leave(leader)
		w.log.Purge(6)
		w.log.SetSequence(0)
		w.record(t, 3)
		w.requirePlanned(t, 3)
		w.adopt(t)
		w.run("second")
		w.requireWell(t)
	})
}

func (w *world) requirePlanned(t *testing.T, misplaced int64) {
	t.Helper()
	plan, err := operating.NewAdopter(w.cursors, w.stream).Plan(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, relay.HaltSequenceBehind, plan.Halt.Reason)
	require.Equal(t, misplaced, plan.Sequence.Misplaced)
}

// TestRealignmentThatDies shows that an adoption that dies after the notice, or after the events were moved, is done again. Between the
// two a leader halts as before.
func TestRealignmentThatDies(t *testing.T) {
	for name, test := range map[string]struct {
		bench  func(w *world) operations.RelayRepair
		halted bool
	}{
		"after the notice":            {func(w *world) operations.RelayRepair { return unaligned{w.cursors} }, true},
		"after the events were moved": {func(w *world) operations.RelayRepair { return dying{w.cursors} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				leader := w.published(t)
				setBacks["it has overtaken the relay by a gap"].cause(t, w)
				time.Sleep(3 * time.Second)
				w.requireSetBack(t, leader)
				adopter := operating.NewAdopter(test.bench(w), w.stream)
				plan, err := adopter.Plan(t.Context(), nil)
				require.NoError(t, err)
				require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
				time.Sleep(10 * time.Second)
				if !test.halted { // the stream says how to go on
					w.requireWell(t)
					return
				}
				w.requireSetBack(t, leader)
				w.write(t, 3, `{}`)
				w.requireRepaired(t)
			})
		})
	}
}

// unaligned is a bench at which the operator dies before anything is moved.
type unaligned struct{ operations.RelayRepair }

func (unaligned) Realign(context.Context, operations.Realignment) (int64, error) {
	return 0, errDead
}

// TestAnotherHaltIsRepairedWithTheSequence shows that an adoption puts the log in order whatever the relay halted for.
func TestAnotherHaltIsRepairedWithTheSequence(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.published(t)
		w.halted(t, leader, relay.HaltTailCopied, func() { w.stream.AppendCopy(1) })
		w.log.SetSequence(3)
		w.write(t, 0, `{}`)
		w.log.SetSequence(6)
		synctest.Wait()
		w.adopt(t)
		time.Sleep(10 * time.Second)
		failed := w.judge(nil, true)
		delete(failed, checkTwice) // the copy
		delete(failed, checkOrder)
		require.Empty(t, failed)
	})
}
