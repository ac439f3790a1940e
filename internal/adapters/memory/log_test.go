package memory_test

import (
	"testing"

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
