package operating_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const subscriber = "billing"

// subscriberHarness is a subscriber, its stream, and the operations on the subscriber.
type subscriberHarness struct {
	*operating.Subscribers
	kept   *memory.Inbox
	stream *memory.Stream
	reader *memory.Reader
}

// LagsOf counts all messages as events.
func (o *subscriberHarness) LagsOf(_ context.Context, places []operations.SubscriberProgress) (lags []operations.Lag, err error) {
	for _, place := range places {
		lags = append(lags, operations.Lag{Subscriber: place.Subscriber, Events: int64(o.stream.LastSequence() - place.Sequence)})
	}
	return lags, nil
}

func (o *subscriberHarness) Lags(context.Context) ([]operations.Lag, error) { return nil, nil }

// newSubscriberHarness returns a harness whose stream has this number of events. Each event is stored a second after the event before.
func newSubscriberHarness(t *testing.T, events int) *subscriberHarness {
	t.Helper()
	o := &subscriberHarness{kept: memory.NewInbox(), stream: memory.NewStream()}
	_, err := o.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	for _, entry := range relaytest.NewEntries(0, events) {
		time.Sleep(time.Second)
		_, err := o.stream.Publish(t.Context(), o.stream.LastSequence(), []outbox.Entry{entry})
		require.NoError(t, err)
	}
	o.reader = memory.NewReader(o.stream, subscriber)
	o.Subscribers = operating.NewSubscribers(operating.SubscriberPorts{
		Operator: memory.NewOperator(o.kept), Stream: o.reader, Lags: o, Log: o.kept,
	})
	return o
}

// begin gives the subscriber lanes at messages of the stream.
func (o *subscriberHarness) begin(t *testing.T, lanes int, sequence uint64) {
	t.Helper()
	state, err := o.reader.State(t.Context())
	require.NoError(t, err)
	require.NoError(t, o.kept.CreateLanes(t.Context(), subscriber, lanes, state.Created, o.messages(t)[sequence-1].StreamPosition))
}

func (o *subscriberHarness) messages(t *testing.T) []inbox.Message {
	t.Helper()
	messages, err := o.reader.Read(t.Context(), 1, inbox.ReadLimit{Count: 1000, Bytes: 1 << 20})
	require.NoError(t, err)
	return messages
}

// TestPlacesAreFound checks that Plan finds the same position for each target as a scan of all messages. The stream has holes, foreign
// messages, and a redriven event.
func TestPlacesAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSubscriberHarness(t, 20)
		o.stream.AppendForeign()
		o.stream.AppendForeign()
		entries := relaytest.NewEntries(20, 6)
		_, err := o.stream.Publish(t.Context(), o.stream.LastSequence(), entries[:2])
		require.NoError(t, err)
		_, err = o.stream.Redrive(t.Context(), o.stream.LastSequence(), entries[1].Progress(), relaytest.NewEntries(3, 1))
		require.NoError(t, err)
		_, err = o.stream.Publish(t.Context(), o.stream.LastSequence(), entries[2:])
		require.NoError(t, err)
		o.begin(t, 1, 20)
		require.NoError(t, o.kept.CreateLanes(t.Context(), "ahead", 1, mustState(t, o).Created, o.messages(t)[len(o.messages(t))-1].StreamPosition))
		for _, sequence := range []uint64{1, 2, 9, 10, 11, 12} {
			o.stream.Delete(sequence)
		}
		messages := o.messages(t)
		for sequence := range o.stream.LastSequence() {
			requireFound(t, o, operations.MoveTarget{Sequence: sequence}, last(messages, func(m inbox.Message) bool { return m.Sequence <= sequence }))
		}
		for position := range outbox.Position(30) {
			want := last(messages, func(m inbox.Message) bool { return m.Progress > 0 && m.Progress <= position })
			if 0 < position && want.Sequence < o.stream.LastSequence() && !want.StoredAt.IsZero() {
				want.Progress = position
			}
			requireFound(t, o, operations.MoveTarget{Position: position}, want)
		}
		for _, message := range messages {
			for _, at := range []time.Time{message.StoredAt.Add(-1), message.StoredAt, message.StoredAt.Add(1)} {
				requireFound(t, o, operations.MoveTarget{Before: at}, last(messages, func(m inbox.Message) bool { return m.StoredAt.Before(at) }))
			}
		}
		requireFound(t, o, operations.MoveTarget{}, inbox.StreamPosition{Sequence: 2, Progress: 2})
		_, err = o.Plan(t.Context(), subscriber, operations.MoveTarget{Sequence: o.stream.LastSequence() + 1}, true)
		require.ErrorIs(t, err, operations.ErrMoveTarget)
	})
}

func mustState(t *testing.T, o *subscriberHarness) inbox.StreamState {
	t.Helper()
	state, err := o.reader.State(t.Context())
	require.NoError(t, err)
	return state
}

// last returns the position of the last message that fits, or the position before the first message if no message fits.
func last(messages []inbox.Message, fits func(inbox.Message) bool) inbox.StreamPosition {
	found := inbox.StreamPosition{Sequence: messages[0].Sequence - 1, Progress: messages[0].Progress - 1}
	for i, place := range inbox.Positions(messages, 0) {
		if fits(messages[i]) {
			found = place
		}
	}
	return found
}

// requireFound plans a rewind of a subscriber that has reached the end of the stream, and requires the wanted position.
func requireFound(t *testing.T, o *subscriberHarness, target operations.MoveTarget, want inbox.StreamPosition) {
	t.Helper()
	plan, err := o.Plan(t.Context(), "ahead", target, false)
	if want.Sequence == o.stream.LastSequence() {
		require.ErrorIs(t, err, operations.ErrNothingToMove)
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, want, plan.To, "%+v", target)
}

// TestNamesThatNoDatabaseStores checks that no verb asks the database about a name or a type that the database could not store: a statement with it
// would be wrong.
func TestNamesThatNoDatabaseStores(t *testing.T) {
	admin := operating.NewSubscribers(operating.SubscriberPorts{}) // a call of a port would panic
	const name = "emails\x00"
	require.ErrorIs(t, admin.Pause(t.Context(), name), inbox.ErrNoSubscriber)
	require.ErrorIs(t, admin.Resume(t.Context(), name), inbox.ErrNoSubscriber)
	require.ErrorIs(t, admin.RemoveTombstone(t.Context(), name), inbox.ErrNoSubscriber)
	_, err := admin.Forget(t.Context(), name)
	require.ErrorIs(t, err, inbox.ErrNoSubscriber)
	_, _, err = admin.SetLanes(t.Context(), name, 1)
	require.ErrorIs(t, err, inbox.ErrNoSubscriber)
	_, err = admin.Ignore(t.Context(), name, "a")
	require.ErrorIs(t, err, inbox.ErrNoSubscriber)
	_, err = admin.Ignore(t.Context(), subscriber, "a\xff")
	require.ErrorIs(t, err, inbox.ErrNotWanted)
}

// TestMoves checks what Plan returns before a move, and what Move does.
func TestMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSubscriberHarness(t, 20)
		_, err := o.Plan(t.Context(), subscriber, operations.MoveTarget{End: true}, true)
		require.ErrorIs(t, err, inbox.ErrNoSubscriber)
		o.begin(t, 3, 10)
		plan, err := o.Plan(t.Context(), subscriber, operations.MoveTarget{Sequence: 4}, false)
		require.NoError(t, err)
		require.Equal(t, []any{3, uint64(10), uint64(10), int64(6)}, []any{plan.Lanes, plan.Lowest, plan.Highest, plan.Events})
		done, err := o.Move(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, plan, done)
		lowest := inbox.Lowest(o.lanes(t))
		require.Equal(t, uint64(4), lowest.Sequence)
		require.True(t, lowest.StoredAt.Equal(o.messages(t)[3].StoredAt))
		_, err = o.Move(t.Context(), plan)
		require.ErrorIs(t, err, operations.ErrNothingToMove)
		plan, err = o.Plan(t.Context(), subscriber, operations.MoveTarget{End: true}, true)
		require.NoError(t, err)
		require.Equal(t, int64(16), plan.Events)
		_, err = o.Move(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, uint64(20), inbox.Lowest(o.lanes(t)).Sequence)
	})
}

func (o *subscriberHarness) lanes(t *testing.T) []inbox.Checkpoint {
	t.Helper()
	found, err := o.Subscribers.Subscribers(t.Context())
	require.NoError(t, err)
	require.NoError(t, found.StreamError)
	return found.All[0].Lanes
}

// TestLanesNeedAStreamThatAgrees checks that lanes are neither moved back nor replaced if the stream has changed at their position. Such
// lanes have not handled the same messages.
func TestLanesNeedAStreamThatAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSubscriberHarness(t, 20)
		o.begin(t, 2, 10)
		at, before, err := o.SetLanes(t.Context(), subscriber, 5)
		require.NoError(t, err)
		require.Equal(t, []any{uint64(10), 2}, []any{at, before})
		for _, lanes := range []int{0, -1, inbox.MaxLanes + 1} {
			_, _, err = o.SetLanes(t.Context(), subscriber, lanes)
			require.ErrorIs(t, err, operations.ErrLaneCount)
		}
		o.stream.LoseAfter(8)
		for _, entry := range relaytest.NewEntries(8, 5) {
			time.Sleep(time.Second)
			_, err := o.stream.Publish(t.Context(), o.stream.LastSequence(), []outbox.Entry{entry})
			require.NoError(t, err)
		}
		_, _, err = o.SetLanes(t.Context(), subscriber, 3)
		require.ErrorIs(t, err, operations.ErrStreamWentBack)
		plan, err := o.Plan(t.Context(), subscriber, operations.MoveTarget{Sequence: 9}, false)
		require.NoError(t, err)
		_, err = o.Move(t.Context(), plan)
		require.ErrorIs(t, err, operations.ErrStreamWentBack)
		require.Len(t, o.lanes(t), 5)

		o.stream.Recreate()
		_, err = o.stream.Open(t.Context(), 1)
		require.NoError(t, err)
		_, _, err = o.SetLanes(t.Context(), subscriber, 3)
		require.ErrorIs(t, err, inbox.ErrOtherStream)
	})
}

// TestForgetAndRemember checks that a subscriber which has applied nothing can be forgotten too, and that its tombstone can be removed.
func TestForgetAndRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newSubscriberHarness(t, 1)
		o.begin(t, 1, 1)
		erased, err := o.Forget(t.Context(), subscriber)
		require.NoError(t, err)
		require.Zero(t, erased)
		found, err := o.Subscribers.Subscribers(t.Context())
		require.NoError(t, err)
		require.False(t, found.All[0].Forgotten.IsZero())
		require.NoError(t, o.RemoveTombstone(t.Context(), subscriber))
		require.ErrorIs(t, o.RemoveTombstone(t.Context(), subscriber), inbox.ErrNotForgotten)
	})
}
