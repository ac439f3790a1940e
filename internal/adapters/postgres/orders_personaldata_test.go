package postgres_test

import (
	"testing"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
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
