package ordercheck

import (
	"sync"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// Placement identifies the placing of an order by its content: writers never place the same order twice.
type Placement struct {
	Customer checker.ID
	Minor    int64
}

// Ledger is the ledger of a run whose clients place orders. Several goroutines may write it at the same time.
type Ledger struct {
	*checker.Ledger
	mu     sync.Mutex
	placed map[Placement]checker.ID // the order that the answer named; zero: no answer yet
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{Ledger: checker.NewLedger(), placed: make(map[Placement]checker.ID)}
}

// OrderRequested records that a client is about to place an order, perhaps in several tries with the same key.
func (l *Ledger) OrderRequested(p Placement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.placed[p] = checker.ID{}
}

// OrderAnswered records the order that the answer named.
func (l *Ledger) OrderAnswered(p Placement, order checker.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.placed[p] = order
}

// OrderAcknowledged records that an answer named this version of the order.
func (l *Ledger) OrderAcknowledged(order checker.ID, version int64) {
	l.Acknowledged("order/"+order.String(), version)
}
