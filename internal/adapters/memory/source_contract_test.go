package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox/inboxtest"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestSource(t *testing.T) {
	inboxtest.TestSource(t, func(t *testing.T) inboxtest.SourceHarness {
		e := newEngine()
		_, err := e.stream.Open(t.Context(), 1)
		require.NoError(t, err)
		return subscription{e}
	})
}

// subscription is an engine's stream with one subscriber at the end of the same line.
type subscription struct{ *engine }

func (s subscription) AckWait() time.Duration { return time.Second }

func (s subscription) Source(*testing.T) (inbox.Source, func()) {
	return sourceLine{s.engine, memory.NewSource(s.stream, "billing", s.AckWait())}, func() {}
}

func (s subscription) Append(t *testing.T, entries ...outbox.Entry) {
	_, err := s.stream.Publish(t.Context(), s.stream.Len(), entries)
	require.NoError(t, err)
}

type sourceLine struct {
	e     *engine
	inner inbox.Source
}

func (l sourceLine) Next(ctx context.Context) (inbox.Delivery, error) {
	delivery, err := through(ctx, l.e, l.inner.Next)
	if err != nil {
		return nil, err
	}
	return deliveryLine{delivery, l.e}, nil
}

type deliveryLine struct {
	inbox.Delivery
	e *engine
}

func (l deliveryLine) call(ctx context.Context, call func(context.Context) error) error {
	_, err := through(ctx, l.e, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

func (l deliveryLine) Ack(ctx context.Context) error    { return l.call(ctx, l.Delivery.Ack) }
func (l deliveryLine) Extend(ctx context.Context) error { return l.call(ctx, l.Delivery.Extend) }
func (l deliveryLine) Retry(ctx context.Context, after time.Duration) error {
	return l.call(ctx, func(ctx context.Context) error { return l.Delivery.Retry(ctx, after) })
}

func newStream(t *testing.T, n int) (*memory.Stream, []outbox.Entry) {
	t.Helper()
	stream := memory.NewStream()
	_, err := stream.Open(t.Context(), 1)
	require.NoError(t, err)
	entries := outboxtest.NewEntries(0, n)
	_, err = stream.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	return stream, entries
}

func receive(t *testing.T, source *memory.Source) outbox.Progress {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	delivery, err := source.Next(ctx)
	require.NoError(t, err)
	entry, err := delivery.Entry()
	require.NoError(t, err)
	require.NoError(t, delivery.Ack(ctx))
	return entry.Progress()
}

func TestEverySubscriberGetsEveryEvent(t *testing.T) {
	stream, entries := newStream(t, 3)
	for _, subscriber := range []string{"billing", "shipping"} {
		source := memory.NewSource(stream, subscriber, time.Second)
		for _, want := range entries {
			require.Equal(t, want.Progress(), receive(t, source))
		}
	}
}

// TestSourceFollowsMisfortunes: what befalls the stream befalls its subscribers.
func TestSourceFollowsMisfortunes(t *testing.T) {
	stream, entries := newStream(t, 4)
	source := memory.NewSource(stream, "billing", time.Second)
	require.Equal(t, entries[0].Progress(), receive(t, source))
	stream.Delete(2)
	require.Equal(t, entries[2].Progress(), receive(t, source), "a deleted message is not delivered")

	stream.Regress(1)
	_, err := stream.Publish(t.Context(), 1, entries[1:2])
	require.NoError(t, err)
	require.Equal(t, entries[1].Progress(), receive(t, source), "what is stored in place of lost messages is delivered")

	stream.Drop()
	_, err = source.Next(t.Context())
	require.ErrorIs(t, err, inbox.ErrNoStream)
	stream.Recreate()
	_, err = stream.Publish(t.Context(), 0, entries[:1])
	require.NoError(t, err)
	require.Equal(t, entries[0].Progress(), receive(t, source), "a new stream is read from its beginning")
}

// TestStaleDelivery: the event was handed out to another copy since, or is over; the first has no say in it any more.
func TestStaleDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, entries := newStream(t, 2)
		source := memory.NewSource(stream, "billing", time.Second)
		stale, err := source.Next(t.Context())
		require.NoError(t, err)
		_, err = source.Next(t.Context())
		require.NoError(t, err)
		handedOut := time.Now()
		require.NoError(t, stale.Retry(t.Context(), time.Hour))
		require.Equal(t, entries[0].Progress(), receive(t, source))
		require.Equal(t, time.Second, time.Since(handedOut))

		require.Equal(t, entries[1].Progress(), receive(t, source))
		require.NoError(t, stale.Ack(t.Context()), "an acknowledgement may be repeated")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = source.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "a late acknowledgement takes nothing back")
	})
}

func TestDeletedWhileUnderWay(t *testing.T) {
	stream, entries := newStream(t, 2)
	source := memory.NewSource(stream, "billing", time.Hour)
	_, err := source.Next(t.Context())
	require.NoError(t, err)
	stream.Delete(1)
	require.Equal(t, entries[1].Progress(), receive(t, source))
}
