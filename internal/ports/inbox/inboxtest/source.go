// Package inboxtest is the executable contract of the driven ports of package inbox. Every adapter runs it, the one in
// memory as well as the real one.
package inboxtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

// SourceHarness is an empty stream with one subscriber. Reconnect returns when every source can work again.
type SourceHarness interface {
	outboxtest.Outages
	Source(t *testing.T) (source inbox.Source, stop func()) // another copy of the subscriber; stop as a restart does
	Append(t *testing.T, entries ...outbox.Entry)
	AppendForeign(t *testing.T) // "hello" on orders.stray, which is not one of the engine's, and which the subscriber gets
	AckWait() time.Duration     // after which an event comes again; between one and three seconds
}

const (
	patience = 30 * time.Second
	soon     = 100 * time.Millisecond
)

// TestSource runs the contract of inbox.Source and inbox.Delivery. Each call of open gives an empty stream.
func TestSource(t *testing.T, open func(t *testing.T) SourceHarness) {
	for name, test := range map[string]func(t *testing.T, h SourceHarness){
		"events come in order, as they were appended":     sourceOrder,
		"an event that was not acknowledged comes again":  sourceAgain,
		"a retried event comes before later ones":         sourceRetry,
		"an extended event does not come again":           sourceExtend,
		"several copies keep the order":                   sourceCopies,
		"a restart continues after what was acknowledged": sourceRestart,
		"a stopped copy keeps nothing from the others":    sourceStopped,
		"a foreign message is unreadable":                 sourceUnreadable,
		"a wait ends with its context and loses nothing":  sourceContext,
		"a lost connection is an outage":                  sourceOutage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			test(t, open(t))
		})
	}
}

func next(t *testing.T, source inbox.Source) inbox.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	delivery, err := source.Next(ctx)
	require.NoError(t, err)
	return delivery
}

func requireNext(t *testing.T, source inbox.Source, want outbox.Entry) inbox.Delivery {
	t.Helper()
	delivery := next(t, source)
	entry, err := delivery.Entry()
	require.NoError(t, err)
	require.Equal(t, want.Progress(), entry.Progress())
	return delivery
}

func ack(t *testing.T, delivery inbox.Delivery) {
	t.Helper()
	require.NoError(t, delivery.Ack(t.Context()))
}

func requireNothing(t *testing.T, source inbox.Source, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, err := source.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// requirePrompt : the event comes, without waiting until a copy that did not take it is given up.
func requirePrompt(t *testing.T, h SourceHarness, source inbox.Source, want outbox.Entry) {
	t.Helper()
	start := time.Now()
	ack(t, requireNext(t, source, want))
	require.Less(t, time.Since(start), h.AckWait()*3/4)
}

func sourceOrder(t *testing.T, h SourceHarness) {
	source, _ := h.Source(t)
	requireNothing(t, source, soon)
	entries := outboxtest.NewEntries(0, 100)
	entries[7].Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	h.Append(t, entries[:3]...)
	h.Append(t, entries[3:]...)
	for _, want := range entries {
		delivery := next(t, source)
		got, err := delivery.Entry()
		require.NoError(t, err)
		require.True(t, want.RecordedAt.Equal(got.RecordedAt))
		got.RecordedAt = want.RecordedAt
		require.Equal(t, want, got)
		ack(t, delivery)
	}
	requireNothing(t, source, soon)
}

func sourceAgain(t *testing.T, h SourceHarness) {
	source, _ := h.Source(t)
	entries := outboxtest.NewEntries(0, 3)
	h.Append(t, entries...)
	start := time.Now()
	require.Equal(t, 1, requireNext(t, source, entries[0]).Attempt())
	again := requireNext(t, source, entries[0])
	require.GreaterOrEqual(t, time.Since(start), h.AckWait()/2)
	require.Equal(t, 2, again.Attempt())
	ack(t, again)
	second := requireNext(t, source, entries[1])
	require.Equal(t, 1, second.Attempt())
	ack(t, second)
	ack(t, requireNext(t, source, entries[2]))
}

func sourceRetry(t *testing.T, h SourceHarness) {
	source, _ := h.Source(t)
	entries := outboxtest.NewEntries(0, 2)
	h.Append(t, entries...)
	for _, delay := range []time.Duration{0, 10 * time.Millisecond, 300 * time.Millisecond} {
		delivery := requireNext(t, source, entries[0])
		asked := time.Now()
		require.NoError(t, delivery.Retry(t.Context(), delay))
		delivery = requireNext(t, source, entries[0])
		require.GreaterOrEqual(t, time.Since(asked), delay)
		require.NoError(t, delivery.Retry(t.Context(), 0))
	}
	ack(t, requireNext(t, source, entries[0]))
	ack(t, requireNext(t, source, entries[1]))
}

func sourceExtend(t *testing.T, h SourceHarness) {
	source, _ := h.Source(t)
	other, _ := h.Source(t)
	entries := outboxtest.NewEntries(0, 2)
	h.Append(t, entries...)
	working := requireNext(t, source, entries[0])
	every := working.ExtendEvery()
	require.Positive(t, every)
	require.LessOrEqual(t, every, h.AckWait()/2)
	for start := time.Now(); time.Since(start) < 2*h.AckWait(); {
		require.NoError(t, working.Extend(t.Context()))
		requireNothing(t, other, every)
	}
	ack(t, working)
	requirePrompt(t, h, other, entries[1])
}

// sourceCopies: three copies work at random, and what they acknowledge is in order, each event once.
func sourceCopies(t *testing.T, h SourceHarness) {
	entries := outboxtest.NewEntries(0, 90)
	var mu sync.Mutex
	var applied []outbox.Progress
	finished, finish := context.WithTimeout(t.Context(), patience)
	defer finish()
	work := func(source inbox.Source) error {
		for taken := 0; ; taken++ {
			delivery, err := source.Next(finished)
			if finished.Err() != nil {
				return nil
			}
			if fault.KindOf(err) == fault.Unavailable { // while another copy is setting up what both need
				continue
			}
			if err != nil {
				return err
			}
			entry, err := delivery.Entry()
			if err != nil {
				return err
			}
			if taken%7 == 3 {
				if err := delivery.Retry(t.Context(), time.Millisecond); err != nil {
					return err
				}
				continue
			}
			mu.Lock()
			applied = append(applied, entry.Progress())
			last := len(applied) == len(entries)
			mu.Unlock()
			if err := delivery.Ack(t.Context()); err != nil {
				return err
			}
			if last {
				finish()
			}
		}
	}
	failures := make(chan error, 3)
	var copies sync.WaitGroup
	for range cap(failures) {
		source, _ := h.Source(t)
		copies.Go(func() { failures <- work(source) })
	}
	h.Append(t, entries[:5]...)
	h.Append(t, entries[5:]...)
	copies.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	want := make([]outbox.Progress, 0, len(entries))
	for _, entry := range entries {
		want = append(want, entry.Progress())
	}
	require.Equal(t, want, applied)
}

func sourceRestart(t *testing.T, h SourceHarness) {
	entries := outboxtest.NewEntries(0, 6)
	h.Append(t, entries...)
	for i := range 3 {
		source, stop := h.Source(t)
		ack(t, requireNext(t, source, entries[2*i]))
		ack(t, requireNext(t, source, entries[2*i+1]))
		stop()
	}
	source, _ := h.Source(t)
	requireNothing(t, source, soon)
}

// sourceStopped: a copy that stops while it waits does not swallow the event that comes next.
func sourceStopped(t *testing.T, h SourceHarness) {
	stopping, stop := h.Source(t)
	requireNothing(t, stopping, soon)
	entries := outboxtest.NewEntries(0, 1)
	h.Append(t, entries...)
	stop()
	source, _ := h.Source(t)
	requirePrompt(t, h, source, entries[0])
}

func sourceUnreadable(t *testing.T, h SourceHarness) {
	source, _ := h.Source(t)
	entries := outboxtest.NewEntries(0, 2)
	h.Append(t, entries[0])
	h.AppendForeign(t)
	h.Append(t, entries[1])
	ack(t, requireNext(t, source, entries[0]))
	foreign := next(t, source)
	_, err := foreign.Entry()
	require.ErrorIs(t, err, inbox.ErrUnreadable)
	raw, sequence := foreign.Raw()
	require.Equal(t, uint64(2), sequence)
	require.Equal(t, outbox.Message{Subject: "orders.stray", Payload: []byte("hello")}, raw)
	ack(t, foreign)
	last := requireNext(t, source, entries[1])
	raw, sequence = last.Raw()
	require.Equal(t, uint64(3), sequence)
	require.Equal(t, entries[1].Payload, raw.Payload)
	ack(t, last)
}

func sourceContext(t *testing.T, h SourceHarness) {
	source, _ := h.Source(t)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := source.Next(ended)
	require.ErrorIs(t, err, context.Canceled)
	entries := outboxtest.NewEntries(0, 2)
	for _, entry := range entries {
		requireNothing(t, source, soon)
		h.Append(t, entry)
		delivery := requireNext(t, source, entry)
		require.ErrorIs(t, delivery.Ack(ended), context.Canceled)
		require.ErrorIs(t, delivery.Extend(ended), context.Canceled)
		require.ErrorIs(t, delivery.Retry(ended, 0), context.Canceled)
		ack(t, delivery)
	}
}

func sourceOutage(t *testing.T, h SourceHarness) {
	source, _ := h.Source(t)
	entries := outboxtest.NewEntries(0, 3)
	h.Append(t, entries...)
	ack(t, requireNext(t, source, entries[0]))
	delivery := requireNext(t, source, entries[1])
	h.Disconnect(t)
	for _, err := range []error{
		delivery.Ack(t.Context()), delivery.Extend(t.Context()), delivery.Retry(t.Context(), 0),
	} {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	}
	_, err := source.Next(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	require.NoError(t, delivery.Ack(t.Context()), "an acknowledgement may be repeated")
	ack(t, requireNext(t, source, entries[2]))
}
