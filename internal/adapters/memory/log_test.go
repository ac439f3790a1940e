package memory_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// TestAppendIsAllOrNone checks that Append appends no message if the version of one message is taken. The versions of the other
// messages stay free.
func TestAppendIsAllOrNone(t *testing.T) {
	log := memory.NewLog()
	writer := log.Begin()
	require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage("a", 1)))
	for _, batch := range [][]outbox.Message{
		{relaytest.NewMessage("a", 2), relaytest.NewMessage("a", 1)},
		{relaytest.NewMessage("a", 2), relaytest.NewMessage("a", 2)},
	} {
		require.ErrorIs(t, writer.Append(t.Context(), batch...), relay.ErrVersionTaken)
	}
	require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage("a", 2)))
	require.NoError(t, writer.Commit())
	require.Len(t, log.Committed(), 2)
}

// TestCountWhileEventsAreParked checks that the operator's count can run while the parking lot changes.
func TestCountWhileEventsAreParked(t *testing.T) {
	const events = 1000
	log := memory.NewLog()
	writer := log.Begin()
	for i := range events {
		require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage("a", int64(i+1))))
	}
	require.NoError(t, writer.Commit())
	cursors, done := memory.NewCursorStore(memory.NewLease(time.Minute), log), make(chan struct{})
	go func() {
		defer close(done)
		for n := range 200 * events {
			log.Park(outbox.Position(n%events+1), relay.Parked, 0)
		}
	}()
	for counting := true; counting; {
		select {
		case <-done:
			counting = false
		default:
		}
		_, err := cursors.CountAfter(t.Context(), 0)
		require.NoError(t, err)
	}
	left, err := cursors.CountAfter(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, left)
}
