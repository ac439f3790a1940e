package relaying_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// adopt repairs what the relay halted for, as the command would.
func (w *world) adopt(t *testing.T) {
	t.Helper()
	adopter := operating.NewAdopter(w.cursors, w.stream)
	plan, err := adopter.Plan(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, adopter.Do(t.Context(), plan))
}

// halted ends the leader without a word, lets misfortune happen, and starts another one, which halts.
func (w *world) halted(t *testing.T, leader *instance, reason relay.HaltReason, misfortune func()) *instance {
	t.Helper()
	time.Sleep(2 * time.Second) // the cursor is saved
	leader.crash()
	w.leave(leader)
	misfortune()
	second := w.run("second")
	time.Sleep(10 * time.Second)
	require.NotNil(t, second.relay.Status().Halt)
	require.Equal(t, reason, second.relay.Status().Halt.Reason)
	return second
}

// TestAdoptionOfAShorterStreamRedrivesAgain: the stream took redriven events along, and others wrote in their place.
func TestAdoptionOfAShorterStreamRedrivesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		w.stream.LimitPayload(100)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		w.halted(t, leader, relay.HaltTailForeign, func() {
			w.stream.Regress(4)
			w.stream.AppendForeign()
			w.stream.AppendForeign()
		})
		w.adopt(t)
		time.Sleep(time.Minute)
		require.Empty(t, w.judge(nil, true))
	})
}

// TestAdoptionThatDiesRedrivesAgain : what follows from an adoption is in the stream, so that the relay can go on from there
// before the command has written anything else, or if it never does.
func TestAdoptionThatDiesRedrivesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		w.stream.LimitPayload(100)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		second := w.halted(t, leader, relay.HaltTailForeign, func() {
			w.stream.Regress(4)
			w.stream.AppendForeign()
			w.stream.AppendForeign()
		})
		adopter := operating.NewAdopter(dying{w.cursors}, w.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
		time.Sleep(time.Minute)
		require.Nil(t, second.relay.Status().Halt, "the stream says how to go on")
		require.Empty(t, w.judge(nil, true))
	})
}

// TestAdoptionKeepsWhatIsBeingParked: the leader died after the notice and before the row.
func TestAdoptionKeepsWhatIsBeingParked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.write(t, 0, `1`)
		w.write(t, 1, `2`)
		time.Sleep(2 * time.Second) // the cursor is saved
		leader.plan("Notify", planned{mishap: crashAfter})
		w.write(t, 1, poison)
		require.Equal(t, []int{1, 2, -3}, w.positions())
		w.halted(t, leader, relay.HaltTailCopied, func() { w.stream.AppendCopy(1) })
		w.adopt(t)
		time.Sleep(time.Minute)
		w.write(t, 1, `4`)
		require.Equal(t, map[int]relay.ParkedState{3: relay.Parked, 4: relay.Parked}, w.states())
	})
}

// TestAdoptionFindsOursBehindManyOthers looks as far back as it must.
func TestAdoptionFindsOursBehindManyOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 5)
		w.halted(t, leader, relay.HaltTailForeign, func() {
			w.stream.Regress(2)
			for range 2500 {
				w.stream.AppendForeign()
			}
		})
		w.adopt(t)
		time.Sleep(time.Minute)
		require.Empty(t, w.judge(nil, false))
	})
}

// TestAdoptionThatDies : one that dies half-way is done again.
func TestAdoptionThatDies(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 5)
		second := w.halted(t, leader, relay.HaltStreamReplaced, w.stream.Recreate)
		adopter := operating.NewAdopter(dying{w.cursors}, w.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
		time.Sleep(10 * time.Second)
		require.NotNil(t, second.relay.Status().Halt)
		w.adopt(t)
		time.Sleep(time.Minute)
		require.Nil(t, second.relay.Status().Halt)
		require.Empty(t, w.judge(nil, false))
	})
}

// TestLostMessagesMayBeBroughtBack: a halt for what retention has removed changes nothing, so the stream can be restored.
func TestLostMessagesMayBeBroughtBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		w.stream.LimitPayload(100)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		w.write(t, 3, `6`)
		second := w.halted(t, leader, relay.HaltLogPurged, func() {
			w.log.Purge(3)
			restore := w.stream.Copy()
			w.stream.Regress(1)
			time.AfterFunc(time.Minute, restore)
		})
		time.Sleep(2 * time.Minute)
		require.Nil(t, second.relay.Status().Halt)
		w.write(t, 3, `7`)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4, 6, 7}, w.positions())
	})
}

// dying is a bench at which the operator dies before anything is adopted.
type dying struct{ operations.RelayRepair }

func (dying) Adopt(context.Context, int64, relay.Cursor, bool) error { return errDead }

// frozenBench is a bench at which the operator freezes before the first adoption.
type frozenBench struct {
	operations.RelayRepair
	meanwhile func()
}

func (b frozenBench) Adopt(ctx context.Context, revision int64, cursor relay.Cursor, anew bool) error {
	b.meanwhile()
	return b.RelayRepair.Adopt(ctx, revision, cursor, anew)
}

// TestAdoptionAtTheCursorsSequence lets a stream go back by one message while an instance that is connected to another broker
// has reported a halt. The adoption's notice takes the lost message's sequence, and the command dies before the cursor is
// written: the lost event is published again.
func TestAdoptionAtTheCursorsSequence(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 3)
		time.Sleep(2 * time.Second)
		leader.crash()
		w.leave(leader)
		w.stream.Regress(2)
		misdirected := w.startAt("misdirected", w.elsewhere)
		w.join(misdirected)
		time.Sleep(2 * ttl)
		require.NotNil(t, misdirected.relay.Status().Halt)
		adopter := operating.NewAdopter(dying{w.cursors}, w.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.EqualValues(t, 2, plan.After.Position)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
		require.EqualValues(t, 3, w.stream.Len())
		w.run("correct")
		time.Sleep(5 * time.Second)
		require.Equal(t, []int{1, 2, -2, 3}, w.positions())
		require.Empty(t, w.judge(nil, false))
	})
}
