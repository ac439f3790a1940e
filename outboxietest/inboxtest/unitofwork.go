package inboxtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// TestUnitOfWork checks what inbox.UnitOfWork promises: an event takes effect once, together with its record and the
// checkpoint, and a failure keeps nothing. open returns an empty store.
func TestUnitOfWork(t *testing.T, open func(t *testing.T) Store) {
	check := contracttest.Runner(t, func(t *testing.T) *lane { return newLane(open(t)) })
	check("events are applied once, in order", applyOnce)
	check("an event that comes twice in a batch", applyTwice)
	check("a batch without events moves the lane", applyNothing)
	check("each subscriber applies an event", applyForEach)
	check("an event without an effect is applied as well", applyWithoutEffect)
	check("an error of an event keeps nothing", applyFailure)
	check("an error of what was collected keeps nothing", applyCollected)
	check("a panic is an error of its event", applyPanic)
	check("a failing commit is an error", applyFailingCommit)
	check("a context that has ended begins nothing", applyEnded)
	check("a context that ends keeps nothing", applyEndedDuring)
	check("a lost connection is an outage", applyOutage)
	check("a transaction is dead when Apply returns", applyDead)
	check("of two copies at one checkpoint one applies", applyOnceOfTwo)
	check("only an exact checkpoint is taken", applyStale)
	check("a checkpoint with an old revision is refused", applyBackAndForth)
	check("a lane that somebody works on is refused at once", applyBusy)
	check("lanes work at the same time", applyLanes)
	check("copies that race apply everything once, in order", applyRaces)
	check("a suspect that fails leaves the rest alone", setAsideSuspect)
	check("a suspect that succeeds is applied", setAsideNothing)
	check("a suspect is set aside if its effect cannot be written", setAsideCollected)
	check("a suspect is judged", setAsideJudged)
	check("a policy may end the transaction", setAsideRefused)
	check("an outage of a suspect's transaction is no failure", setAsideOutage)
	check("events behind a letter are held", setAsideHeld)
	check("a suspect behind a letter is held", setAsideHeldSuspect)
	check("an event with a letter is a duplicate", setAsideDuplicate)
	check("a discarded event is a duplicate, and holds nothing", setAsideDiscarded)
	check("an unreadable message holds nothing", setAsideUnreadable)
	check("an event that is no event of the engine is unreadable", setAsideForeign)
	check("an event without a handler waits for one", setAsideWithoutHandler)
	check("what is odd is kept all the same", setAsideOdd)
	check("if the batch fails, no letter is kept", setAsideUndone)
}

func applyOnce(t *testing.T, l *lane) {
	l.begin(t)
	applied := int64(0)
	for _, n := range []int{1, 2, 250} {
		events := newEvents(l.at.Sequence, n, "it's ?0", `"\{}`, "é", "")
		for range 2 {
			l.handled = nil
			before := l.at
			outcome, err := l.try(t.Context(), events...)
			require.NoError(t, err)
			require.Empty(t, outcome.Letters)
			require.Greater(t, outcome.Checkpoint.Revision, before.Revision)
			before.Revision, before.StreamPosition, before.Idle = outcome.Checkpoint.Revision, positionAt(events[n-1].Sequence), 0
			require.Equal(t, before, outcome.Checkpoint)
			l.requireAsKnown(t)
			if outcome.Results[0] == inbox.Applied {
				require.Equal(t, repeat(inbox.Applied, n), outcome.Results)
				require.Equal(t, idsOf(events), l.handled)
				applied += int64(n)
			} else {
				require.Equal(t, repeat(inbox.Duplicate, n), outcome.Results)
				require.Empty(t, l.handled)
			}
			l.requireCount(t, applied)
			l.requireApplied(t, events, events...)
			for i := range events {
				events[i].Sequence += uint64(n) // the same events come again
			}
		}
	}
	require.Equal(t, int64(253), applied)

	same, another := newEvent(l.at.Sequence+1, "a"), newEvent(l.at.Sequence+2, "a")
	another.Version = same.Version
	require.Equal(t, repeat(inbox.Applied, 2), l.results(t, same, another), "the id decides")
	known, fresh := same, newEvent(l.at.Sequence+2, "a")
	known.Sequence = l.at.Sequence + 1
	require.Equal(t, []inbox.Result{inbox.Duplicate, inbox.Applied}, l.results(t, known, fresh))
}

func applyTwice(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 3, "a")
	events[2].Entry = events[0].Entry
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.Applied, inbox.Duplicate}, l.results(t, events...))
	require.Equal(t, idsOf(events[:2]), l.handled)
	l.requireCount(t, 2)
}

func applyNothing(t *testing.T, l *lane) {
	l.begin(t)
	for _, to := range []inbox.StreamPosition{positionAt(3), positionAt(3), positionAt(90_000), {Sequence: 90_001}} {
		before := l.at
		l.move(t, to)
		require.Equal(t, to, l.at.StreamPosition)
		require.Greater(t, l.at.Revision, before.Revision)
		l.requireAsKnown(t)
	}
	require.Empty(t, l.handled)
}

func applyForEach(t *testing.T, l *lane) {
	event := newEvent(1, "a")
	for _, name := range []string{subscriber, "shipping", "Shipping"} {
		l.subscriber = name
		l.begin(t)
		require.Equal(t, []inbox.Result{inbox.Applied}, l.results(t, event))
		l.requireCount(t, 1)
		l.requireApplied(t, []inbox.Event{event}, event)
	}
}

func applyWithoutEffect(t *testing.T, l *lane) {
	l.begin(t)
	event := newEvent(1, "a")
	outcome, err := l.UnitOfWork.Apply(t.Context(), l.subscriber, l.batch(event), nothing{}, deadAtFirstFailure)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.Applied}, outcome.Results)
	l.requireApplied(t, []inbox.Event{event}, event)
}

// nothing is a handler that does nothing.
type nothing struct{}

func (nothing) Name() string                                         { return "nothing" }
func (nothing) Types() []string                                      { return nil }
func (nothing) External() bool                                       { return false }
func (nothing) Handle(context.Context, inbox.Tx, outbox.Entry) error { return nil }
func (nothing) Applied(context.Context, outbox.Entry)                {}

// requireNothingKept requires that nothing of the events was kept, and that they can be applied now.
func (l *lane) requireNothingKept(t *testing.T, events ...inbox.Event) {
	t.Helper()
	l.requireAsKnown(t)
	l.requireCount(t, 0)
	l.requireApplied(t, events)
	for _, event := range events {
		_, err := l.Letters.Letter(t.Context(), l.subscriber, event.ID)
		require.ErrorIs(t, err, inbox.ErrNoLetter)
	}
	l.awaitFree(t)
	clear(l.failing)
	l.inHandler, l.handled = nil, nil
	require.Equal(t, repeat(inbox.Applied, len(events)), l.results(t, events...))
	require.Equal(t, idsOf(events), l.handled)
	l.requireCount(t, int64(len(events)))
}

func applyFailure(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 4, "a", "b")
	for _, failure := range []error{
		errHandler, inbox.ErrPermanent.Wrap(errHandler), inbox.ErrUnreadable.Wrap(errHandler),
		fault.New(fault.Unavailable, "down", "down").Wrap(errHandler),
	} {
		l.failing[events[2].ID], l.handled = failure, nil
		err := l.apply(t, events...)
		var ofEvent *inbox.EventError
		require.ErrorAs(t, err, &ofEvent)
		require.Equal(t, 2, ofEvent.Index)
		require.ErrorIs(t, err, errHandler)
		require.Equal(t, inbox.Permanent(failure), inbox.Permanent(err))
		require.Equal(t, fault.KindOf(failure), fault.KindOf(err))
		require.Equal(t, idsOf(events[:3]), l.handled, "it stops there")
	}
	l.requireNothingKept(t, events...)
}

func applyCollected(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 3, "a", "b", "c")
	l.inHandler = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		if entry.ID == events[0].ID {
			return l.Add(ctx, tx, unwritableKey, amount)
		}
		return nil
	}
	for _, batch := range [][]inbox.Event{events, events[:1], {events[0], suspect(events[1])}} {
		err := l.apply(t, batch...)
		var collected *inbox.CollectedError
		require.ErrorAs(t, err, &collected)
		require.ErrorIs(t, err, inbox.ErrPermanent)
	}
	l.requireNothingKept(t, events...)
}

func applyPanic(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 2, "a")
	l.inHandler = func(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
		if entry.ID == events[1].ID {
			panic("it's mine")
		}
		return nil
	}
	for range 30 { // a panic must not keep its connection or its locks
		err := l.apply(t, events...)
		var ofEvent *inbox.EventError
		require.ErrorAs(t, err, &ofEvent)
		require.Equal(t, 1, ofEvent.Index)
		require.ErrorContains(t, err, "it's mine")
	}
	l.requireNothingKept(t, events...)
}

func applyFailingCommit(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 2, "a")
	l.FailNextCommit(t)
	require.Error(t, l.apply(t, events...))
	require.Equal(t, idsOf(events), l.handled)
	l.requireNothingKept(t, events...)
}

func applyEnded(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 2, "a")
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := l.try(ended, events...)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, l.handled)
	l.requireNothingKept(t, events...)
}

// disturb makes the handler call a function when the handler gets an event. With early, the call comes before the effect, otherwise
// after it.
func (l *lane) disturb(event inbox.Event, early bool, disturb func()) {
	l.inHandler = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		if entry.ID != event.ID {
			return nil
		}
		if early {
			disturb()
		} else {
			defer disturb()
		}
		return l.Add(ctx, tx, l.key, amount)
	}
}

func applyEndedDuring(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 3, "a")
	for _, batch := range [][]inbox.Event{events, {events[0], suspect(events[1]), events[2]}} {
		for _, early := range []bool{true, false} {
			for _, at := range events {
				ctx, end := context.WithCancel(t.Context())
				l.disturb(at, early, end)
				_, err := l.try(ctx, batch...)
				require.ErrorIs(t, err, context.Canceled)
				end()
				l.awaitFree(t)
			}
		}
	}
	l.requireNothingKept(t, events...)
}

func applyOutage(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 2, "a")
	for _, at := range events {
		l.disturb(at, at.ID == events[0].ID, func() { l.Disconnect(t) })
		for range 2 {
			err := l.apply(t, events...)
			require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
			require.False(t, inbox.Permanent(err))
		}
		l.Reconnect(t)
		l.awaitFree(t)
	}
	l.requireNothingKept(t, events...)
}

func applyDead(t *testing.T, l *lane) {
	l.begin(t)
	var left []inbox.Tx
	l.inHandler = func(_ context.Context, tx inbox.Tx, _ outbox.Entry) error {
		left = append(left, tx)
		return nil
	}
	events := newEvents(0, 3, "a", "b")
	l.failing[events[2].ID] = errHandler
	require.ErrorIs(t, l.apply(t, events...), errHandler)
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.Applied, inbox.SetAside}, l.results(t, events[0], suspect(events[1]), suspect(events[2])))
	require.Len(t, left, 6)
	for i, tx := range left {
		require.Error(t, l.Add(t.Context(), tx, l.key, amount), fmt.Sprint(i))
	}
	l.requireCount(t, 2)
}
