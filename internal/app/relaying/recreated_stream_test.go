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

// afterDeletion starts a world whose stream was deleted under five published events, and a relay that is halted for it.
func afterDeletion(t *testing.T, h *harness) *instance {
	leader := h.run("leader")
	h.record(t, 5)
	return h.halted(t, leader, relay.HaltStreamMissing, h.stream.Drop)
}

// TestSecondAdoptionOfAMissingStream lets two operators plan to make the stream. The second one comes when the relay has
// published everything again, and changes nothing.
func TestSecondAdoptionOfAMissingStream(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		afterDeletion(t, h)
		adopter := operating.NewAdopter(h.cursors, h.stream)
		first, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		second, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, second.Create)
		require.NoError(t, adopter.Do(t.Context(), first))
		time.Sleep(4 * time.Second)
		require.Len(t, h.stream.Entries(), 5)
		require.Error(t, adopter.Do(t.Context(), second))
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(nil, false))
		require.Len(t, h.stream.Entries(), 5)
	})
}

// TestAdoptionsThatCreateAtOnce lets a second operator open the stream that the first one has just made: one notice wins.
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

// TestStreamIsBroughtBackBeforeAdoption brings the old stream back between plan and act: it has what the plan would publish.
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

// TestAdoptionOfAStreamThatIsGone freezes an adoption after its notice, while the stream is deleted and another adoption makes
// the next one: the cursor stays with that.
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

// TestAppendForTheFormerStream keeps an append under way over the end of its stream. The new one comes to hold as many messages,
// but under other sequences, so the append is refused. With sequences that repeat it is stored, and an event is skipped.
func TestAppendForTheFormerStream(t *testing.T) {
	runs := func(t *testing.T, remake func(*harness), repeats bool) (failed map[string]string) {
		inFakeTime(t, func(t *testing.T, h *harness) {
			if repeats {
				h.streamRepair = repeatedSequences{uncheckedStream{h.stream}}
				h.breakPorts = func(ports *relaying.Ports) { // they would notice that an event was skipped
					ports.Log, ports.Cursors = uncountedLog{ports.Log}, uncountedCursors{h.cursors}
				}
			}
			frozen := h.run("frozen")
			h.record(t, 5)
			require.EqualValues(t, 5, h.stream.Len())
			time.Sleep(2 * time.Second)
			frozen.inject("Publish", injectedFault{kind: stallBefore, delay: time.Minute})
			h.record(t, 1) // event 6, after sequence 5
			remake(h)
			second := h.run("second")
			time.Sleep(2 * ttl)
			require.NotNil(t, second.relay.Status().Halt)
			second.inject("Publish", injectedFault{kind: stallAfter, delay: 2 * time.Minute}) // a notice and four events
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

// TestRemadeStreamWithMessages is not adopted as long as an append for the former one could be stored in it: it is made again,
// or the operator says that nobody is left who could send such an append.
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

// TestRemadeStreamThatIsEmptiedHeals begins where the stream began, not at sequence 1.
func TestRemadeStreamThatIsEmptiedHeals(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		afterDeletion(t, h)
		h.adopt(t)
		time.Sleep(4 * time.Second)
		info, err := h.stream.Look(t.Context())
		require.NoError(t, err)
		h.stream.Regress(info.Base)
		h.record(t, 1)
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(nil, false))
		require.Len(t, h.stream.Entries(), 6)
	})
}

// interrupted is a stream that somebody else works on when it was opened.
type interruptedStream struct {
	relay.StreamRepair
	then func()
}

func (i interruptedStream) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := i.StreamRepair.Open(ctx, first)
	i.then()
	return info, err
}

// TestAdoptedStreamIsDeletedBeforeAnybodyLeads deletes the stream again right after its adoption: operators learn of the new
// halt, although nobody leads, and can repair it.
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

// reportHaltEvery is how often a halted instance reports.
const haltReportInterval = 10 * time.Second
