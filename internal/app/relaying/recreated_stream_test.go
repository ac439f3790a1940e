package relaying_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// afterDeletion publishes five events and deletes the stream. It returns an instance that has halted because of the deletion.
func afterDeletion(t *testing.T, h *harness) *instance {
	leader := h.run("leader")
	h.record(t, 5)
	return h.halted(t, leader, relay.HaltStreamMissing, h.stream.Drop)
}

// TestSecondAdoptionOfAMissingStream checks that a second plan to create the stream changes nothing, if the first was carried out and the
// relay has published everything again.
func TestSecondAdoptionOfAMissingStream(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		afterDeletion(t, h)
		adopter := operating.NewAdopter(h.cursors, h.stream)
		first, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		second, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, second.CreateStream)
		require.NoError(t, adopter.Do(t.Context(), first))
		time.Sleep(4 * time.Second)
		require.Len(t, h.stream.Entries(), 5)
		require.Error(t, adopter.Do(t.Context(), second))
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(nil, false))
		require.Len(t, h.stream.Entries(), 5)
	})
}

// TestAdoptionsThatCreateAtOnce checks that only one of two adoptions succeeds if both create the stream at the same time.
func TestAdoptionsThatCreateAtOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		afterDeletion(t, h)
		second := operating.NewAdopter(h.cursors, h.stream)
		plan, err := second.Plan(t.Context(), nil)
		require.NoError(t, err)
		first := operating.NewAdopter(h.cursors, interruptedStream{h.stream, func() {
			require.NoError(t, second.Do(t.Context(), plan))
		}})
		require.ErrorIs(t, first.Do(t.Context(), plan), relay.ErrTailMoved)
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(nil, false))
	})
}

// TestStreamIsBroughtBackBeforeAdoption checks that a plan to create the stream is refused if the old stream was restored since.
func TestStreamIsBroughtBackBeforeAdoption(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 5)
		restore := h.stream.Copy()
		h.halted(t, leader, relay.HaltStreamMissing, h.stream.Drop)
		adopter := operating.NewAdopter(h.cursors, h.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		restore()
		require.ErrorIs(t, adopter.Do(t.Context(), plan), relay.ErrTailMoved)
		time.Sleep(4 * time.Second)
		h.record(t, 1)
		require.Empty(t, h.check(nil, false))
		require.Len(t, h.stream.Entries(), 6)
	})
}

// TestAdoptionOfAStreamThatIsGone checks an adoption that was frozen after its control message. The adoption does not write the cursor if
// its stream was deleted and another adoption has created the next stream.
func TestAdoptionOfAStreamThatIsGone(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		afterDeletion(t, h)
		frozen := operating.NewAdopter(frozenRepair{h.cursors, func() {
			h.stream.Drop()
			time.Sleep(4 * time.Second)
			h.adopt(t)
			time.Sleep(4 * time.Second)
		}}, h.stream)
		plan, err := frozen.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, frozen.Do(t.Context(), plan), relay.ErrTailMoved)
		time.Sleep(4 * time.Second)
		h.record(t, 1)
		require.Empty(t, h.check(nil, false))
		require.Len(t, h.stream.Entries(), 6)
	})
}

// TestAppendForTheFormerStream checks that an append for a deleted stream is not stored in the next stream. The next stream has as many
// messages, but other sequences. With the same sequences the stream would store the append, and an event would be lost.
func TestAppendForTheFormerStream(t *testing.T) {
	runs := func(t *testing.T, remake func(*harness), repeats bool) (failed map[string]string) {
		inFakeTime(t, func(t *testing.T, h *harness) {
			if repeats {
				h.streamRepair = repeatedSequences{uncheckedStream{h.stream}}
				h.breakPorts = func(ports *relaying.Ports) { // these ports would notice the skipped event
					ports.Log, ports.Cursors = uncountedLog{ports.Log}, uncountedCursors{h.cursors}
				}
			}
			frozen := h.run("frozen")
			h.record(t, 5)
			require.EqualValues(t, 5, h.stream.LastSequence())
			time.Sleep(2 * time.Second)
			frozen.inject("Publish", injectedFault{kind: stallBefore, delay: time.Minute})
			h.record(t, 1) // event 6, after sequence 5
			remake(h)
			second := h.run("second")
			time.Sleep(2 * ttl)
			require.NotNil(t, second.relay.Status().Halt)
			second.inject("Publish", injectedFault{kind: stallAfter, delay: 2 * time.Minute}) // a control message and four events
			adopter := operating.NewAdopter(h.cursors, h.streamRepair)
			plan, err := adopter.Plan(t.Context(), nil)
			require.NoError(t, err)
			require.NoError(t, adopter.Do(t.Context(), plan))
			time.Sleep(5 * time.Minute)
			failed = h.check(nil, false)
		})
		return failed
	}
	for name, remake := range map[string]func(*harness){
		"the adoption makes the stream": func(h *harness) { h.stream.Drop() },
		"somebody else makes it":        func(h *harness) { h.stream.Recreate() },
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, runs(t, remake, false))
			require.Contains(t, runs(t, remake, true), checkLost)
		})
	}
}

// TestRemadeStreamWithMessages checks that a stream is not adopted while it could store an append for the former stream. The operator
// deletes the stream, or states that no such append is under way.
func TestRemadeStreamWithMessages(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 5)
		h.halted(t, leader, relay.HaltStreamReplaced, func() {
			h.stream.Recreate()
			h.stream.AppendForeign()
		})
		adopter := operating.NewAdopter(h.cursors, h.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, plan.Repeats)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), operating.ErrSequencesRepeat)
		plan.AcceptRepeats = true
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(4 * time.Second)
		require.Len(t, h.stream.Entries(), 5)

		h.stream.Drop()
		time.Sleep(4 * time.Second)
		plan, err = adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.False(t, plan.Repeats)
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(nil, false))
		require.Len(t, h.stream.Entries(), 5)
	})
}

// TestRemadeStreamThatIsEmptiedHeals checks that the relay publishes everything again if a stream that started at a higher sequence loses
// all its messages.
func TestRemadeStreamThatIsEmptiedHeals(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		afterDeletion(t, h)
		h.adopt(t)
		time.Sleep(4 * time.Second)
		info, err := h.stream.Look(t.Context())
		require.NoError(t, err)
		h.stream.LoseAfter(info.Base)
		h.record(t, 1)
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(nil, false))
		require.Len(t, h.stream.Entries(), 6)
	})
}

// interruptedStream calls then after each Open.
type interruptedStream struct {
	relay.StreamRepair
	then func()
}

func (i interruptedStream) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := i.StreamRepair.Open(ctx, first)
	i.then()
	return info, err
}

// TestAdoptedStreamIsDeletedBeforeAnybodyLeads checks that operators see the new halt and can repair it, if an adopted stream is deleted
// before a relay leads.
func TestAdoptedStreamIsDeletedBeforeAnybodyLeads(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		second := afterDeletion(t, h)
		h.adopt(t)
		h.stream.Drop()
		require.NotNil(t, second.relay.Status().Halt)
		time.Sleep(haltReportInterval + 2*time.Second)
		h.adopt(t)
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(second.relay.Status().Halt, false))
		require.Len(t, h.stream.Entries(), 5)
	})
}

// haltReportInterval is how often a halted instance reports.
const haltReportInterval = 10 * time.Second
