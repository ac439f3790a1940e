package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/orderstest"
)

func TestPersonalData(t *testing.T) {
	orderstest.TestPersonalData(t, func(t *testing.T) orderstest.PersonalDataStore {
		h := newHarness(t)
		return orderstest.PersonalDataStore{
			Harness: shop{h}, KeyRing: postgres.NewKeyRing(h.db), Data: postgres.NewPersonalData(h.db),
			TotalsStore: orderstest.TotalsStore{Inbox: h.store(), Totals: postgres.NewTotals(), Total: h.total},
		}
	})
}

// TestErasedLateLetters checks letters that a subscriber made after the erasure, because it had the key or the plain event still. A second erasure
// finds them, also if the event has an empty header for the key, and one more finds nothing.
func TestErasedLateLetters(t *testing.T) {
	h := shop{newHarness(t)}
	data, customer := postgres.NewPersonalData(h.db), newCustomer()
	var key outbox.SealKey
	require.NoError(t, h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) (err error) {
		key, err = tx.CustomerKeys.Hold(ctx, customer)
		return err
	}))
	_, err := data.Erase(t.Context(), customer, newCustomer())
	require.NoError(t, err)
	letter := func(n int, headers, payload string) {
		exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version,
				position, recorded_at, event_type, subject, headers, payload, first_failed_at)
			VALUES ('emails', gen_random_uuid(), 'dead', 'the card of somebody', 1, 'order', gen_random_uuid(), 1, ?, now(), 'a', 'b', ?, ?, now())`,
			n, headers, []byte(payload))
	}
	letter(1, fmt.Sprintf(`{"ce-sealedkey": %q}`, key.ID), `{"sealed": ""}`)
	letter(2, `{"ce-sealedkey": ""}`, fmt.Sprintf(`{"customer_id":%q}`, customer))
	letter(3, `{"ce-sealedkey": "c51d1c20-8bbb-4d5f-9f4f-3bd10c4f3b62"}`, `{"sealed": "of another customer"}`)

	found, err := data.Erase(t.Context(), customer, newCustomer())
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{found.Letters, found.SealedLetters})
	var left []string
	require.NoError(t, h.others.NewRaw("SELECT position || ' ' || error || ' ' || convert_from(payload, 'UTF8') FROM dead_letters ORDER BY position").
		Scan(t.Context(), &left))
	require.Equal(t, []string{
		`1 the customer was erased {"sealed": ""}`, `2 the customer was erased {"erased":true}`, `3 the card of somebody {"sealed": "of another customer"}`,
	}, left)
	found, err = data.Inspect(t.Context(), customer)
	require.NoError(t, err)
	require.False(t, found.Erasable(), "%+v", found)
}
