package memory_test

import (
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/orderstest"
)

func TestUnitOfWork(t *testing.T) {
	orderstest.TestUnitOfWork(t, func(*testing.T) orderstest.Harness {
		log := memory.NewLog()
		return shop{work: memory.NewUnitOfWork(log), log: log}
	})
}

type shop struct {
	work *memory.UnitOfWork
	log  *memory.Log
}

func (s shop) UnitOfWork() orders.UnitOfWork                          { return s.work }
func (s shop) OrderReader() orders.OrderReader                        { return memory.NewOrderReader(s.work) }
func (s shop) ExpiredKeys() orders.ExpiredKeys                        { return s.work }
func (s shop) AgeKeys(_ *testing.T, by time.Duration)                 { s.work.AgeKeys(by) }
func (s shop) FailNextCommit(*testing.T)                              { s.work.FailNextCommit() }
func (s shop) Disconnect(*testing.T)                                  { s.work.Disconnect() }
func (s shop) Reconnect(*testing.T)                                   { s.work.Reconnect() }
func (s shop) SetSequence(_ *testing.T, p outbox.Position)            { s.log.SetSequence(p) }
func (s shop) Entries(*testing.T) []outbox.Entry                      { return s.log.Committed() }
func (s shop) Order(_ *testing.T, id order.ID) (order.Snapshot, bool) { return s.work.Order(id) }

func TestAuthenticatorKeepsTheContract(t *testing.T) {
	orderstest.TestAuthenticator(t, func(*testing.T) orderstest.TokenStore {
		authenticator := memory.NewAuthenticator()
		return orderstest.TokenStore{
			Authenticator: authenticator, Token: func(_ *testing.T, who order.Principal) string { return authenticator.Token(who) },
		}
	})
}
