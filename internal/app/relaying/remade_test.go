package relaying_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// afterDeletion starts a world whose stream was deleted under five published events, and a relay that is halted for it.
func afterDeletion(t *testing.T, w *world) *instance {
	leader := w.run("leader")
	w.record(t, 5)
	return w.halted(t, leader, relay.HaltStreamMissing, w.stream.Drop)
}

// TestSecondAdoptionOfAMissingStream lets two operators plan to make the stream. The second one comes when the relay has
// published everything again, and changes nothing.
func TestSecondAdoptionOfAMissingStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		afterDeletion(t, w)
		adopter := operating.NewAdopter(w.cursors, w.stream)
		first, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		second, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, second.CreateStream)
		require.NoError(t, adopter.Do(t.Context(), first))
		time.Sleep(4 * time.Second)
		require.Len(t, w.stream.Entries(), 5)
		require.Error(t, adopter.Do(t.Context(), second))
		time.Sleep(4 * time.Second)
		require.Empty(t, w.judge(nil, false))
		require.Len(t, w.stream.Entries(), 5)
	})
}

// TestAdoptionsThatCreateAtOnce lets a second operator open the stream that the first one has just made: one notice wins.
func TestAdoptionsThatCreateAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		afterDeletion(t, w)
		second := operating.NewAdopter(w.cursors, w.stream)
		plan, err := second.Plan(t.Context(), nil)
		require.NoError(t, err)
		first := operating.NewAdopter(w.cursors, interrupted{w.stream, func() {
			require.NoError(t, second.Do(t.Context(), plan))
		}})
		require.ErrorIs(t, first.Do(t.Context(), plan), relay.ErrTailMoved)
		time.Sleep(4 * time.Second)
		require.Empty(t, w.judge(nil, false))
	})
}

// TestStreamIsBroughtBackBeforeAdoption brings the old stream back between plan and act: it has what the plan would publish.
func TestStreamIsBroughtBackBeforeAdoption(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 5)
		restore := w.stream.Copy()
		w.halted(t, leader, relay.HaltStreamMissing, w.stream.Drop)
		adopter := operating.NewAdopter(w.cursors, w.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		restore()
		require.ErrorIs(t, adopter.Do(t.Context(), plan), relay.ErrTailMoved)
		time.Sleep(4 * time.Second)
		w.record(t, 1)
		require.Empty(t, w.judge(nil, false))
		require.Len(t, w.stream.Entries(), 6)
	})
}

// TestAdoptionOfAStreamThatIsGone freezes an adoption after its notice, while the stream is deleted and another adoption makes
// the next one: the cursor stays with that.
func TestAdoptionOfAStreamThatIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		afterDeletion(t, w)
		frozen := operating.NewAdopter(frozenBench{w.cursors, func() {
			w.stream.Drop()
			time.Sleep(4 * time.Second)
			w.adopt(t)
			time.Sleep(4 * time.Second)
		}}, w.stream)
		plan, err := frozen.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, frozen.Do(t.Context(), plan), relay.ErrTailMoved)
		time.Sleep(4 * time.Second)
		w.record(t, 1)
		require.Empty(t, w.judge(nil, false))
		require.Len(t, w.stream.Entries(), 6)
	})
}

// TestAppendForTheFormerStream keeps an append under way over the end of its stream. The new one comes to hold as many messages,
// but under other sequences, so the append is refused. With sequences that repeat it is stored, and an event is skipped.
func TestAppendForTheFormerStream(t *testing.T) {
	lives := func(t *testing.T, remake func(*world), repeats bool) (failed map[string]string) {
		bubble(t, func(t *testing.T, w *world) {
			if repeats {
				w.repair = repeating{credulous{w.stream}}
				w.log.IgnoreExcess() // it would notice that an event was skipped
			}
			frozen := w.run("frozen")
			w.record(t, 5)
			require.EqualValues(t, 5, w.stream.Len())
			time.Sleep(2 * time.Second)
			frozen.plan("Publish", planned{mishap: stallBefore, delay: time.Minute})
			w.record(t, 1) // event 6, after sequence 5
			remake(w)
			second := w.run("second")
			time.Sleep(2 * ttl)
			require.NotNil(t, second.relay.Status().Halt)
			second.plan("Publish", planned{mishap: stallAfter, delay: 2 * time.Minute}) // a notice and four events
			adopter := operating.NewAdopter(w.cursors, w.repair)
			plan, err := adopter.Plan(t.Context(), nil)
			require.NoError(t, err)
			require.NoError(t, adopter.Do(t.Context(), plan))
			time.Sleep(5 * time.Minute)
			failed = w.judge(nil, false)
		})
		return failed
	}
	for name, remake := range map[string]func(*world){
		"the adoption makes the stream": func(w *world) { w.stream.Drop() },
		"somebody else makes it":        func(w *world) { w.stream.Recreate() },
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, lives(t, remake, false))
			require.Contains(t, lives(t, remake, true), checkLost)
		})
	}
}

// TestRemadeStreamWithMessages is not adopted as long as an append for the former one could be stored in it: it is made again,
// or the operator says that nobody is left who could send such an append.
func TestRemadeStreamWithMessages(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 5)
		w.halted(t, leader, relay.HaltStreamReplaced, func() {
			w.stream.Recreate()
			w.stream.AppendForeign()
		})
		adopter := operating.NewAdopter(w.cursors, w.stream)
		plan, err := adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, plan.Repeats)
		require.ErrorIs(t, adopter.Do(t.Context(), plan), operating.ErrSequencesRepeat)
		plan.AcceptRepeats = true
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(4 * time.Second)
		require.Len(t, w.stream.Entries(), 5)

		w.stream.Drop()
		time.Sleep(4 * time.Second)
		plan, err = adopter.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.False(t, plan.Repeats)
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(4 * time.Second)
		require.Empty(t, w.judge(nil, false))
		require.Len(t, w.stream.Entries(), 5)
	})
}

// TestRemadeStreamThatIsEmptiedHeals begins where the stream began, not at sequence 1.
func TestRemadeStreamThatIsEmptiedHeals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		afterDeletion(t, w)
		w.adopt(t)
		time.Sleep(4 * time.Second)
		info, err := w.stream.Look(t.Context())
		require.NoError(t, err)
		w.stream.Regress(info.Base)
		w.record(t, 1)
		time.Sleep(4 * time.Second)
		require.Empty(t, w.judge(nil, false))
		require.Len(t, w.stream.Entries(), 6)
	})
}

// interrupted is a stream that somebody else works on when it was opened.
type interrupted struct {
	relay.StreamRepair
	then func()
}

func (i interrupted) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	info, err := i.StreamRepair.Open(ctx, first)
	i.then()
	return info, err
}

// TestAdoptedStreamIsDeletedBeforeAnybodyLeads deletes the stream again right after its adoption: operators learn of the new
// halt, although nobody leads, and can repair it.
func TestAdoptedStreamIsDeletedBeforeAnybodyLeads(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		second := afterDeletion(t, w)
		w.adopt(t)
		w.stream.Drop()
		require.NotNil(t, second.relay.Status().Halt)
		time.Sleep(reportHaltEvery + 2*time.Second)
		w.adopt(t)
		time.Sleep(4 * time.Second)
		require.Empty(t, w.judge(second.relay.Status().Halt, false))
		require.Len(t, w.stream.Entries(), 5)
	})
}

// reportHaltEvery is how often a halted instance reports.
const reportHaltEvery = 10 * time.Second
