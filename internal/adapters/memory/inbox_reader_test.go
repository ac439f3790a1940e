package memory_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

var everything = inbox.ReadLimit{Count: 1000, Bytes: 1 << 20}

func readAll(t *testing.T, reader *memory.Reader, from uint64) []inbox.Message {
	t.Helper()
	messages, err := reader.Read(t.Context(), from, everything)
	require.NoError(t, err)
	return messages
}

// TestStoredTimesAreUnique checks that a message that replaces a lost one has another stored time, even if fake time stands
// still.
func TestStoredTimesAreUnique(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := memory.NewStream()
		_, err := stream.Open(t.Context(), 1)
		require.NoError(t, err)
		entries := relaytest.NewEntries(0, 3)
		_, err = stream.Publish(t.Context(), 0, entries)
		require.NoError(t, err)
		reader := memory.NewReader(stream, billing)
		before := readAll(t, reader, 1)
		stream.LoseAfter(1)
		_, err = stream.Publish(t.Context(), 1, entries[1:])
		require.NoError(t, err)
		after := readAll(t, reader, 1)
		require.Len(t, after, 3)
		require.Equal(t, before[0], after[0])
		require.True(t, after[1].StoredAt.After(before[2].StoredAt))
		require.True(t, after[2].StoredAt.After(after[1].StoredAt))
	})
}

// TestLaggingServer checks that a server that lags behind shows only the beginning of the stream.
func TestLaggingServer(t *testing.T) {
	stream := memory.NewStream()
	_, err := stream.Open(t.Context(), 1)
	require.NoError(t, err)
	_, err = stream.Publish(t.Context(), 0, relaytest.NewEntries(0, 5))
	require.NoError(t, err)
	reader := memory.NewReader(stream, billing)
	reader.Behind = func() uint64 { return 2 }
	reader.BehindState = func() uint64 { return 9 }
	require.Len(t, readAll(t, reader, 2), 2)
	require.Empty(t, readAll(t, reader, 4))
	state, err := reader.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, inbox.StreamState{Created: "1", First: 1, Last: 0}, state)
}
