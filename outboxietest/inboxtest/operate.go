package inboxtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// OperatorStore is a store with inbox.Operator.
type OperatorStore struct {
	LetterStore
	Operator inbox.Operator
}

// operatedSubscriber is a subscriber with an operator.
type operatedSubscriber struct {
	*letters
	inbox.Operator
}

// TestOperator checks what inbox.Operator promises: each change waits for the transactions under way, and no transaction from before the change
// commits after it. open returns an empty store.
func TestOperator(t *testing.T, open func(t *testing.T) OperatorStore) {
	check := contracttest.Runner(t, func(t *testing.T) *operatedSubscriber {
		store := open(t)
		return &operatedSubscriber{newLetters(store.LetterStore), store.Operator}
	})
	check("nothing is applied while it is paused", operatePause)
	check("a pause waits for the batch under way", operatePauseDuring)
	check("a pause waits for the letters under way", operatePauseDuringLetters)
	check("an operator's change succeeds while copies try letters all the time", operateBesideLetters)
	check("lanes go back, with their marks", operateRewind)
	check("lanes fill different parts of a hole", operateDuringAFill)
	check("the number of lanes changes while two lanes fill different holes", operateDuringTwoFills)
	check("lanes go forwards", operateSkip)
	check("only lanes that stand otherwise are moved", operateMoveSome)
	check("a move needs its check", operateProof)
	check("a move is for one stream", operateOtherStream)
	check("more lanes begin where the slowest one stands", operateMoreLanes)
	check("lanes become fewer, and get their marks", operateFewerLanes)
	check("a new lane never has a revision that an earlier one had", operateRevisions)
	check("a type is ignored, with its letters", operateIgnore)
	check("a subscriber is forgotten, and begins again", operateForget)
	check("a copy of the former subscriber tries no letters", operateForgetLetters)
	check("Forget waits for the batch under way", operateForgetDuring)
	check("what is forgotten is erased in pieces", operateErase)
	check("an overview shows everything", operateOverview)
	check("each subscriber stands for itself", operateApart)
	check("a lost connection is an outage", operateOutage)
	check("changes at the same time follow one another", operateTogether)
	check("an unknown subscriber is an error", operateUnknown)
}

// noObjection is a LaneCheck that accepts all lanes.
func noObjection(context.Context, []inbox.Checkpoint) error { return nil }

func moveBack(to inbox.StreamPosition) inbox.Move { return inbox.Move{Stream: stream, To: to} }

func moveForward(to inbox.StreamPosition) inbox.Move {
	return inbox.Move{Stream: stream, To: to, Forwards: true}
}

// changes calls every method except Overviews and Erase, and returns their errors.
func (o *operatedSubscriber) changes(ctx context.Context, name string) map[string]error {
	errs := map[string]error{"pause": o.Pause(ctx, name), "resume": o.Resume(ctx, name)}
	_, errs["move"] = o.Move(ctx, name, moveBack(inbox.StreamPosition{}), noObjection)
	_, errs["lanes"] = o.SetLanes(ctx, name, 3, noObjection)
	_, errs["ignore"] = o.Ignore(ctx, name, "a")
	errs["forget"] = o.Forget(ctx, name)
	errs["remove tombstone"] = o.RemoveTombstone(ctx, name)
	return errs
}

func operateUnknown(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	for change, err := range o.changes(t.Context(), "another") {
		require.ErrorIs(t, err, inbox.ErrNoSubscriber, change)
	}
	_, err := o.Erase(t.Context(), "another", 10)
	require.ErrorIs(t, err, inbox.ErrNotForgotten)
	require.Len(t, o.overviews(t), 1, "nothing was made")

	require.NoError(t, o.Checkpoints.Subscribe(t.Context(), "third", "handler", nil))
	_, err = o.Move(t.Context(), "third", moveForward(positionAt(3)), noObjection)
	require.ErrorIs(t, err, inbox.ErrNotBegun)
	_, err = o.SetLanes(t.Context(), "third", 3, noObjection)
	require.ErrorIs(t, err, inbox.ErrNotBegun)
}

func operatePause(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	events := o.retried(t, 0, 2, "a")
	for range 2 {
		require.NoError(t, o.Pause(t.Context(), subscriber))
		require.True(t, subscriptionOf(t, o.Store, subscriber).Paused)
	}
	requireLaneMoved(t, o.apply(t, newEvent(3, "b")), "it was made before the pause")
	o.requireNothingDue(t)
	o.requireCount(t, 0)
	for range 2 {
		require.NoError(t, o.Resume(t.Context(), subscriber))
		require.False(t, subscriptionOf(t, o.Store, subscriber).Paused)
	}
	o.redeliver(t, all, events...)
	require.NoError(t, o.look(t).apply(t, newEvent(3, "b")))
	o.requireCount(t, 3)
}

// during makes the next call of the handler start change. It requires that change does not return while the handler works. The channel gets
// the error of change.
func (o *operatedSubscriber) during(t *testing.T, change func() error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	o.inHandler = func(context.Context, inbox.Tx, outbox.Entry) error {
		o.inHandler = nil
		go func() { done <- change() }()
		select {
		case err := <-done:
			t.Errorf("it did not wait: %v", err)
		case <-time.After(soon):
		}
		return nil
	}
	return done
}

func operatePauseDuring(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	paused := o.during(t, func() error { return o.Pause(t.Context(), subscriber) })
	require.NoError(t, o.apply(t, newEvent(1, "a")))
	require.NoError(t, <-paused)
	requireLaneMoved(t, o.apply(t, newEvent(2, "a")))
	o.requireCount(t, 1)
}

func operatePauseDuringLetters(t *testing.T, o *operatedSubscriber) {
	require.NoError(t, o.Checkpoints.Subscribe(t.Context(), subscriber, handlerName, []string{"a"}))
	o.begin(t)
	first := o.retried(t, 0, 1, "a")
	second := o.retried(t, 1, 1, "b")
	paused := o.during(t, func() error { return o.Pause(t.Context(), subscriber) })
	o.redeliver(t, all, first...)
	require.NoError(t, <-paused)
	o.requireNothingDue(t)
	o.requireCount(t, 1)
	require.NoError(t, o.Resume(t.Context(), subscriber))
	o.redeliver(t, all, second...)
}

// requireMarks requires the marks of the lane, the newest first.
func (l *lane) requireMarks(t *testing.T, want ...uint64) {
	t.Helper()
	marks, err := l.Checkpoints.Marks(t.Context(), l.subscriber, l.at.Lane)
	require.NoError(t, err)
	var found []uint64
	for _, mark := range marks {
		require.Equal(t, positionAt(mark.Sequence), mark)
		found = append(found, mark.Sequence)
	}
	require.Equal(t, want, found)
}

func operateRewind(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	first, last := newEvent(3, "a"), newEvent(inbox.MarkEvery+2, "a")
	require.NoError(t, o.apply(t, first, last))
	o.move(t, positionAt(3*inbox.MarkEvery))
	o.move(t, positionAt(3*inbox.MarkEvery+7))
	known := o.at
	before, err := o.Move(t.Context(), subscriber, moveBack(positionAt(inbox.MarkEvery+1)), noObjection)
	require.NoError(t, err)
	require.Equal(t, []inbox.Checkpoint{known}, before)
	requireLaneMoved(t, o.apply(t, newEvent(known.Sequence+1, "a")))
	require.Equal(t, positionAt(inbox.MarkEvery+1), o.look(t).at.StreamPosition)
	o.requireMarks(t, inbox.MarkEvery+1)
	fresh := newEvent(inbox.MarkEvery+3, "a")
	require.Equal(t, []inbox.Result{inbox.Duplicate, inbox.Applied}, o.results(t, last, fresh), "what was applied stays applied")

	at := inbox.StreamPosition{Sequence: 2, Progress: 7}
	_, err = o.Move(t.Context(), subscriber, moveBack(at), noObjection)
	require.NoError(t, err)
	require.Equal(t, at, o.look(t).at.StreamPosition)
	o.requireMarks(t)
	_, err = o.Move(t.Context(), subscriber, moveBack(inbox.StreamPosition{}), noObjection)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.Duplicate, inbox.Duplicate, inbox.Duplicate}, o.look(t).results(t, first, last, fresh))
	o.requireCount(t, 3)
}

func operateSkip(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	held := o.prepare(t, 0, 2, "a")
	o.move(t, positionAt(inbox.MarkEvery+4))
	before, err := o.Move(t.Context(), subscriber, moveForward(positionAt(inbox.MarkEvery+9)), noObjection)
	require.NoError(t, err)
	require.Equal(t, []inbox.Checkpoint{o.at}, before)
	requireLaneMoved(t, o.apply(t, newEvent(inbox.MarkEvery+5, "b")))
	o.look(t).requireMarks(t, inbox.MarkEvery+9, inbox.MarkEvery+4)
	require.NoError(t, o.apply(t, newEvent(inbox.MarkEvery+10, "b")))
	o.requireCount(t, 1)
	o.requireLetter(t, held[0], inbox.Dead)
}

func operateMoveSome(t *testing.T, o *operatedSubscriber) {
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 3, stream, inbox.StreamPosition{}))
	for n, at := range []uint64{10, 20, 30} {
		o.at.Lane = n
		o.look(t).move(t, positionAt(at))
	}
	places := func(want ...uint64) {
		t.Helper()
		var found []uint64
		for _, lane := range lanesOf(t, o.Store, subscriber) {
			require.Equal(t, positionAt(lane.Sequence), lane.StreamPosition)
			found = append(found, lane.Sequence)
		}
		require.Equal(t, want, found)
	}
	before, err := o.Move(t.Context(), subscriber, moveBack(positionAt(20)), noObjection)
	require.NoError(t, err)
	require.Len(t, before, 3)
	places(10, 20, 20)
	_, err = o.Move(t.Context(), subscriber, moveForward(positionAt(15)), noObjection)
	require.NoError(t, err)
	places(15, 20, 20)
	_, err = o.Move(t.Context(), subscriber, moveBack(positionAt(20)), func(context.Context, []inbox.Checkpoint) error {
		return errors.New("no lane is moved, so nothing is to be proved")
	})
	require.NoError(t, err)
	places(15, 20, 20)
}

func operateProof(t *testing.T, o *operatedSubscriber) {
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 2, stream, positionAt(5)))
	o.look(t).move(t, positionAt(9))
	lanes := lanesOf(t, o.Store, subscriber)
	for _, change := range []func(proof inbox.LaneCheck) error{
		func(proof inbox.LaneCheck) error {
			_, err := o.Move(t.Context(), subscriber, moveBack(positionAt(7)), proof)
			return err
		},
		func(proof inbox.LaneCheck) error {
			_, err := o.SetLanes(t.Context(), subscriber, 4, proof)
			return err
		},
	} {
		shownLanes := 0
		err := change(func(_ context.Context, shown []inbox.Checkpoint) error {
			shownLanes = len(shown)
			require.Equal(t, lanes[:shownLanes], shown)
			return errHandler
		})
		require.ErrorIs(t, err, errHandler)
		require.Positive(t, shownLanes)
		require.Equal(t, lanes, lanesOf(t, o.Store, subscriber))
	}
	require.NoError(t, o.apply(t, newEvent(10, "a")), "nothing was changed")
}

func operateOtherStream(t *testing.T, o *operatedSubscriber) {
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 2, stream, positionAt(5)))
	lanes := lanesOf(t, o.Store, subscriber)
	_, err := o.Move(t.Context(), subscriber, inbox.Move{Stream: "another", To: positionAt(2)}, noObjection)
	require.ErrorIs(t, err, inbox.ErrOtherStream)
	require.Equal(t, lanes, lanesOf(t, o.Store, subscriber))
	_, err = o.Checkpoints.Rewind(t.Context(), subscriber, lanes[1], "another", positionAt(2))
	require.NoError(t, err)
	_, err = o.Move(t.Context(), subscriber, moveBack(positionAt(2)), noObjection)
	require.ErrorIs(t, err, inbox.ErrOtherStream)
	_, err = o.SetLanes(t.Context(), subscriber, 3, noObjection)
	require.ErrorIs(t, err, inbox.ErrOtherStream)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
}

func operateMoreLanes(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	first := newEvent(3, "a")
	require.NoError(t, o.apply(t, first))
	known := o.at
	before, err := o.SetLanes(t.Context(), subscriber, 5, noObjection)
	require.NoError(t, err)
	require.Equal(t, []inbox.Checkpoint{known}, before)
	requireLanes(t, o.Store, 5, positionAt(3))
	requireLaneMoved(t, o.apply(t, newEvent(4, "a")))
	o.at.Lane = 4
	require.NoError(t, o.look(t).apply(t, newEvent(4, "a")))
	o.requireCount(t, 2)
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 1, stream, inbox.StreamPosition{}))
	require.Len(t, lanesOf(t, o.Store, subscriber), 5)
}

func operateFewerLanes(t *testing.T, o *operatedSubscriber) {
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 3, stream, inbox.StreamPosition{}))
	for n, places := range [][]uint64{
		{inbox.MarkEvery + 1, 3 * inbox.MarkEvery}, {2 * inbox.MarkEvery, 2*inbox.MarkEvery + 5}, {inbox.MarkEvery + 1, 4 * inbox.MarkEvery},
	} {
		o.at.Lane = n
		for _, at := range places {
			o.look(t).move(t, positionAt(at))
		}
	}
	_, err := o.SetLanes(t.Context(), subscriber, 2, noObjection)
	require.NoError(t, err)
	requireLanes(t, o.Store, 2, positionAt(2*inbox.MarkEvery+5))
	for n := range 2 {
		o.at.Lane = n
		o.requireMarks(t, 2*inbox.MarkEvery, inbox.MarkEvery+1)
	}
	o.at.Lane = 2
	o.requireMarks(t)
}

// operateDuringAFill checks that lanes at the same message are compared by their progress in the log.
func operateDuringAFill(t *testing.T, o *operatedSubscriber) {
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 3, stream, inbox.StreamPosition{}))
	place := positionAt(inbox.MarkEvery)
	for n, progress := range []outbox.Position{500, 100, 700} {
		o.at.Lane = n
		place.Progress = progress
		o.look(t).move(t, place)
	}
	place.Progress = 300
	_, err := o.Move(t.Context(), subscriber, moveForward(place), noObjection)
	require.NoError(t, err)
	var progress []outbox.Position
	for _, lane := range lanesOf(t, o.Store, subscriber) {
		progress = append(progress, lane.Progress)
	}
	require.Equal(t, []outbox.Position{500, 300, 700}, progress)
	_, err = o.SetLanes(t.Context(), subscriber, 2, noObjection)
	require.NoError(t, err)
	requireLanes(t, o.Store, 2, place)
	marks, err := o.Checkpoints.Marks(t.Context(), subscriber, 1)
	require.NoError(t, err)
	require.Equal(t, []inbox.StreamPosition{place}, marks)
}

// operateDuringTwoFills checks where new lanes begin: at the earliest message of all lanes, and at the lowest progress of all lanes. The message
// and the progress may come from different lanes.
func operateDuringTwoFills(t *testing.T, o *operatedSubscriber) {
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 2, stream, inbox.StreamPosition{}))
	earlier, later := positionAt(inbox.MarkEvery), positionAt(inbox.MarkEvery+10)
	earlier.Progress, later.Progress = 700, 300
	for n, at := range []inbox.StreamPosition{earlier, later} {
		o.at.Lane = n
		o.look(t).move(t, at)
	}
	_, err := o.SetLanes(t.Context(), subscriber, 3, noObjection)
	require.NoError(t, err)
	earlier.Progress = 300
	requireLanes(t, o.Store, 3, earlier)
	marks, err := o.Checkpoints.Marks(t.Context(), subscriber, 2)
	require.NoError(t, err)
	require.Equal(t, []inbox.StreamPosition{earlier}, marks)
}

func operateRevisions(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	seen := make(map[int64]bool)
	for _, lanes := range []int{1, 1, 4, 1} {
		_, err := o.SetLanes(t.Context(), subscriber, lanes, noObjection)
		require.NoError(t, err)
		for _, lane := range lanesOf(t, o.Store, subscriber) {
			require.False(t, seen[lane.Revision], "lane %d, revision %d", lane.Lane, lane.Revision)
		}
		for _, lane := range lanesOf(t, o.Store, subscriber) { // the lanes of one change may have the same revision
			seen[lane.Revision] = true
		}
	}
	requireLaneMoved(t, o.apply(t, newEvent(1, "a")), "the lane is as it was, but for its revision")
}
