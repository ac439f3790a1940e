package memory_test

import (
	"testing"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/outboxietest/orderstest"
)

func TestPersonalData(t *testing.T) {
	orderstest.TestPersonalData(t, func(*testing.T) orderstest.PersonalDataStore {
		log, kept := memory.NewLog(), memory.NewInbox()
		kept.UseLog(log)
		work := memory.NewUnitOfWork(log)
		return orderstest.PersonalDataStore{
			Harness: shop{work: work, log: log}, KeyRing: memory.NewKeyRing(work), Data: memory.NewPersonalData(work, kept),
			TotalsStore: orderstest.TotalsStore{Inbox: newStore(kept), Totals: memory.NewTotals(), Total: totalOf(kept)},
		}
	})
}
