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

// adopt adopts the stream, as the operator's command does.
func (h *harness) adopt(t *testing.T) {
	t.Helper()
	adopter := operating.NewAdopter(h.cursors, h.stream)
	plan, err := adopter.Plan(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, adopter.Do(t.Context(), plan))
}

// halted kills the leader, calls cause, and starts another instance. It requires that this instance halts with the reason.
func (h *harness) halted(t *testing.T, leader *instance, reason relay.HaltReason, cause func()) *instance {
	t.Helper()
	time.Sleep(2 * time.Second) // the cursor is saved
	leader.crash()
	h.leave(leader)
	cause()
	second := h.run("second")
	time.Sleep(10 * time.Second)
	require.NotNil(t, second.relay.Status().Halt)
	require.Equal(t, reason, second.relay.Status().Halt.Reason)
	return second
}

// TestAdoptionOfAShorterStreamRedrivesAgain checks that redriven events are redriven again after an adoption, if the stream lost them and
// foreign messages have their sequences.
func TestAdoptionOfAShorterStreamRedrivesAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		h.stream.LimitPayload(100)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		h.halted(t, leader, relay.HaltTailForeign, func() {
			h.stream.LoseAfter(4)
			h.stream.AppendForeign()
			h.stream.AppendForeign()
		})
		h.adopt(t)
		time.Sleep(time.Minute)
		require.Empty(t, h.check(nil, true))
	})
}

// TestAdoptionThatDiesRedrivesAgain checks that lost redriven events are redriven again even if the adoption dies after its control
// message. The relay goes on from this message.
func TestAdoptionThatDiesRedrivesAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		h.stream.LimitPayload(100)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		second := h.halted(t, leader, relay.HaltTailForeign, func() {
			h.stream.LoseAfter(4)
			h.stream.AppendForeign()
			h.stream.AppendForeign()
		})
		adopter := operating.NewAdopter(crashBeforeAdopt{h.cursors}, h.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
		time.Sleep(time.Minute)
		require.Nil(t, second.relay.Status().Halt, "the stream says how to go on")
		require.Empty(t, h.check(nil, true))
	})
}

// TestAdoptionKeepsWhatIsBeingParked checks an event that the leader was parking when it died: the control message is in the stream, but
// the event is not in the parking lot yet. After an adoption, the event is in the parking lot.
func TestAdoptionKeepsWhatIsBeingParked(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.write(t, 0, `1`)
		h.write(t, 1, `2`)
		time.Sleep(2 * time.Second) // the cursor is saved
		leader.inject("PublishControl", injectedFault{kind: crashAfter})
		h.write(t, 1, poison)
		require.Equal(t, []int{1, 2, -3}, h.positions())
		h.halted(t, leader, relay.HaltTailCopied, func() { h.stream.AppendCopy(1) })
		h.adopt(t)
		time.Sleep(time.Minute)
		h.write(t, 1, `4`)
		require.Equal(t, map[int]relay.ParkedState{3: relay.Parked, 4: relay.Parked}, h.states())
	})
}

// TestAdoptionFindsOursBehindManyOthers checks that an adoption finds the relay's last message before thousands of foreign messages.
func TestAdoptionFindsOursBehindManyOthers(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 5)
		h.halted(t, leader, relay.HaltTailForeign, func() {
			h.stream.LoseAfter(2)
			for range 2500 {
				h.stream.AppendForeign()
			}
		})
		h.adopt(t)
		time.Sleep(time.Minute)
		require.Empty(t, h.check(nil, false))
	})
}

// TestAdoptionThatDies checks that an adoption which died halfway can be done again.
func TestAdoptionThatDies(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 5)
		second := h.halted(t, leader, relay.HaltStreamReplaced, h.stream.Recreate)
		adopter := operating.NewAdopter(crashBeforeAdopt{h.cursors}, h.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
		time.Sleep(10 * time.Second)
		require.NotNil(t, second.relay.Status().Halt)
		h.adopt(t)
		time.Sleep(time.Minute)
		require.Nil(t, second.relay.Status().Halt)
		require.Empty(t, h.check(nil, false))
	})
}

// TestLostMessagesMayBeBroughtBack checks a relay that has halted because retention has removed events that the stream lost. The relay goes
// on after the stream was restored, because the halt has changed nothing.
func TestLostMessagesMayBeBroughtBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		h.stream.LimitPayload(100)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		h.write(t, 3, `6`)
		second := h.halted(t, leader, relay.HaltLogPurged, func() {
			h.log.Purge(3)
			restore := h.stream.Copy()
			h.stream.LoseAfter(1)
			time.AfterFunc(time.Minute, restore)
		})
		time.Sleep(2 * time.Minute)
		require.Nil(t, second.relay.Status().Halt)
		h.write(t, 3, `7`)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4, 6, 7}, h.positions())
	})
}

// crashBeforeAdopt is a database of an operator who dies before the adoption is written.
type crashBeforeAdopt struct{ operations.RelayRepair }

func (crashBeforeAdopt) Adopt(context.Context, int64, relay.Cursor, bool) error { return errDead }

// frozenRepair is a database of an operator whose process is frozen before the adoption is written.
type frozenRepair struct {
	operations.RelayRepair
	meanwhile func()
}

func (b frozenRepair) Adopt(ctx context.Context, revision int64, cursor relay.Cursor, newStream bool) error {
	b.meanwhile()
	return b.RelayRepair.Adopt(ctx, revision, cursor, newStream)
}

// TestAdoptionAtTheCursorsSequence checks that a lost event is published again, although an adoption has appended its control message at
// the sequence of the event. The adoption died before it wrote the cursor. A misdirected instance had reported the halt.
func TestAdoptionAtTheCursorsSequence(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 3)
		time.Sleep(2 * time.Second)
		leader.crash()
		h.leave(leader)
		h.stream.LoseAfter(2)
		misdirected := h.startAt("misdirected", h.elsewhere)
		h.join(misdirected)
		time.Sleep(2 * ttl)
		require.NotNil(t, misdirected.relay.Status().Halt)
		adopter := operating.NewAdopter(crashBeforeAdopt{h.cursors}, h.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.EqualValues(t, 2, plan.After.Position)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), errDead)
		require.EqualValues(t, 3, h.stream.LastSequence())
		h.run("correct")
		time.Sleep(5 * time.Second)
		require.Equal(t, []int{1, 2, -2, 3}, h.positions())
		require.Empty(t, h.check(nil, false))
	})
}
