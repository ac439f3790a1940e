package postgres_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox/inboxtest"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestEmitter(t *testing.T) {
	inboxtest.TestEmitter(t, func(t *testing.T) inboxtest.EmitStore {
		h := newHarness(t)
		return inboxtest.EmitStore{LetterStore: h.letterStore(), Emitter: postgres.NewEmitter(), Log: h.log}
	})
}

// TestEmittedIsWrittenLast checks that one statement writes what was emitted, after everything else although it was collected first, in order
// of the aggregate, and that the transaction keeps its idle timeout.
func TestEmittedIsWrittenLast(t *testing.T) {
	h := newHarness(t)
	sent := &statements{}
	hooked := *h
	hooked.db = h.db.WithQueryHook(sent)
	require.NoError(t, withEffects(t.Context(), &hooked, func(effects postgres.Effects) error {
		for _, cause := range outboxtest.NewEntries(0, 3) {
			for _, aggregate := range []string{"b", "a"} {
				message := outboxtest.NewMessage(aggregate, int64(cause.Position))
				require.NoError(t, postgres.NewEmitter().Emit(t.Context(), effects.Tx(), cause, message))
			}
		}
		require.NoError(t, postgres.NewTotals().Add(t.Context(), effects.Tx(), newCustomer(), order.NewMoney(1, "USD")))
		return nil
	}))
	require.Equal(t, []string{"BEGIN", "INSERT", "INSERT", "COMMIT"}, sent.operations)
	require.Contains(t, sent.queries[1], "customer_totals")
	require.NotContains(t, strings.Join(sent.queries, "\n"), "idle_in_transaction_session_timeout")
	var written []string
	require.NoError(t, h.others.NewRaw("SELECT aggregate_id || aggregate_version FROM outbox ORDER BY position").Scan(t.Context(), &written))
	require.Equal(t, []string{"a1", "a2", "a3", "b1", "b2", "b3"}, written)
	page, err := h.log.After(t.Context(), outbox.Progress{}, outbox.Slice{Count: 10, Bytes: 1 << 20})
	require.NoError(t, err)
	require.Len(t, page.Entries, 6)
}
