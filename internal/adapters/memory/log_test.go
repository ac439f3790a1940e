package memory_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

// TestAppendIsAllOrNone : what goes before a version that is taken is not appended, nor is its version taken.
func TestAppendIsAllOrNone(t *testing.T) {
	log := memory.NewLog()
	writer := log.Begin()
	require.NoError(t, writer.Append(t.Context(), outboxtest.NewMessage("a", 1)))
	for _, batch := range [][]outbox.Message{
		{outboxtest.NewMessage("a", 2), outboxtest.NewMessage("a", 1)},
		{outboxtest.NewMessage("a", 2), outboxtest.NewMessage("a", 2)},
	} {
		require.ErrorIs(t, writer.Append(t.Context(), batch...), ports.ErrVersionTaken)
	}
	require.NoError(t, writer.Append(t.Context(), outboxtest.NewMessage("a", 2)))
	require.NoError(t, writer.Commit())
	require.Len(t, log.Committed(), 2)
}
