package relaytest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func streamUnfit(t *testing.T, h StreamHarness) {
	publisher, info := openStream(t, h)
	entries := NewEntries(0, 60)
	publish(t, publisher, 0, entries[:20])
	repair := h.Misconfigure(t)
	for _, check := range []struct {
		name string
		look func() (relay.StreamInfo, error)
	}{
		{"Look", func() (relay.StreamInfo, error) { return publisher.Look(t.Context()) }},
		{"Open", func() (relay.StreamInfo, error) { return publisher.Open(t.Context(), 0) }},
		{"Open again", func() (relay.StreamInfo, error) { return publisher.Open(t.Context(), 0) }},
		{"Look after Open", func() (relay.StreamInfo, error) { return publisher.Look(t.Context()) }},
		{"Open of another instance", func() (relay.StreamInfo, error) { return h.Publisher().Open(t.Context(), 1) }},
	} {
		seen, err := check.look()
		require.ErrorIs(t, err, relay.ErrStreamUnfit, check.name)
		require.Equal(t, info.Created, seen.Created, check.name)
		require.EqualValues(t, 20, seen.LastSequence, check.name)
	}
	requireStored(t, h, entries[:20])
	repair()
	_, err := publisher.Look(t.Context())
	require.NoError(t, err)
	again, err := publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 20, again.LastSequence)
	publish(t, publisher, 20, entries[20:])
	requireStored(t, h, entries)
}

func streamContext(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := publisher.Open(ended, 1)
	require.ErrorIs(t, err, context.Canceled)
	_, err = publisher.At(ended, 1)
	require.ErrorIs(t, err, context.Canceled)
	for _, n := range []int{1, 100} {
		last, err := publisher.Publish(ended, 0, NewEntries(0, n))
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, last)
		last, err = publisher.Redrive(ended, 0, redriveAt, NewEntries(0, n))
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, last)
	}
	last, err := publisher.PublishControl(ended, 0, relay.ControlMessage{Progress: redriveAt, Parked: "too large"})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, last)
	requireTail(t, h, 0)
}

func streamOutage(t *testing.T, h StreamHarness) {
	publisher, info := openStream(t, h)
	entries := NewEntries(0, 50)
	publish(t, publisher, 0, entries[:2])
	h.Disconnect(t)
	requireOutage := func(err error) {
		t.Helper()
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
		require.NotErrorIs(t, err, relay.ErrStreamMissing)
	}
	_, err := publisher.Open(t.Context(), 1)
	requireOutage(err)
	_, err = publisher.At(t.Context(), 1)
	requireOutage(err)
	for _, n := range []int{1, 48} {
		last, err := publisher.Publish(t.Context(), 2, entries[2:2+n])
		requireOutage(err)
		require.Equal(t, uint64(2), last)
		last, err = publisher.Redrive(t.Context(), 2, redriveAt, entries[2:2+n])
		requireOutage(err)
		require.Equal(t, uint64(2), last)
	}
	last, err := publisher.PublishControl(t.Context(), 2, relay.ControlMessage{Progress: redriveAt, Parked: "too large"})
	requireOutage(err)
	require.Equal(t, uint64(2), last)
	h.Reconnect(t)
	again, err := publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, info.Created, again.Created)
	require.Equal(t, uint64(2), again.LastSequence)
	publish(t, publisher, 2, entries[2:])
	requireStored(t, h, entries)
}

// streamReconnect checks that nothing is appended between a reconnect and Open: an older copy of the stream may have come back.
func streamReconnect(t *testing.T, h StreamHarness) {
	publisher, first := openStream(t, h)
	sessions := map[uint64]bool{first.Session: true}
	entries := NewEntries(0, 40)
	publish(t, publisher, 0, entries[:2])
	for tail := uint64(2); tail < 8; tail += 3 {
		h.Disconnect(t)
		h.Reconnect(t)
		for range 2 { // also at the second try
			for _, n := range []int{1, 20} {
				last, err := publisher.Publish(t.Context(), tail, entries[tail:int(tail)+n])
				require.ErrorIs(t, err, relay.ErrTailMoved)
				require.Equal(t, tail, last)
				last, err = publisher.Redrive(t.Context(), tail, redriveAt, entries[tail:int(tail)+n])
				require.ErrorIs(t, err, relay.ErrTailMoved)
				require.Equal(t, tail, last)
			}
			last, err := publisher.PublishControl(t.Context(), tail, relay.ControlMessage{Progress: redriveAt, Parked: "too large"})
			require.ErrorIs(t, err, relay.ErrTailMoved)
			require.Equal(t, tail, last)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		_, err := publisher.Open(ended, 0)
		require.Error(t, err)
		_, err = publisher.Publish(t.Context(), tail, entries[tail:tail+1])
		require.ErrorIs(t, err, relay.ErrTailMoved, "a failed Open does not count")

		looked, err := publisher.Look(t.Context())
		require.NoError(t, err)
		_, err = publisher.Publish(t.Context(), tail, entries[tail:tail+1])
		require.ErrorIs(t, err, relay.ErrTailMoved, "Look does not count")
		info, err := publisher.Open(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, info, looked)
		require.Equal(t, tail, info.LastSequence)
		require.False(t, sessions[info.Session])
		sessions[info.Session] = true
		publish(t, publisher, tail, entries[tail:tail+1])
		_, err = publisher.Redrive(t.Context(), tail+1, redriveAt, entries[tail+1:tail+2])
		require.NoError(t, err)
		_, err = publisher.PublishControl(t.Context(), tail+2, relay.ControlMessage{Progress: redriveAt, Parked: "too large"})
		require.NoError(t, err)
		requireTail(t, h, tail+3)
	}
}
