package checker

import "sync"

// Ledger records what the clients of a run know: their requests, and the answers. Several goroutines may write a Ledger at
// the same time. Verify reads it after the run.
type Ledger struct {
	mu sync.Mutex

	acknowledged map[string]int64 // by aggregate, type/id: the highest acknowledged version
	committed    map[ID]struct{}  // events of transactions whose commit was acknowledged
	rolledBack   map[ID]struct{}  // events of transactions that were never committed
	poison       map[ID]struct{}  // events that no subscriber can ever handle
	failing      map[ID]struct{}  // events that no subscriber can handle for a while
	unknown      map[unknown]struct{}
}

// unknown is a type of events that some copies of a subscriber do not know for a while.
type unknown struct{ subscriber, kind string }

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{
		acknowledged: make(map[string]int64), committed: make(map[ID]struct{}), rolledBack: make(map[ID]struct{}),
		poison: make(map[ID]struct{}), failing: make(map[ID]struct{}), unknown: make(map[unknown]struct{}),
	}
}

// Acknowledged records that an answer named this version of the aggregate, type/id.
func (l *Ledger) Acknowledged(aggregate string, version int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged[aggregate] = max(l.acknowledged[aggregate], version)
}

// Committed records events whose commit was acknowledged.
func (l *Ledger) Committed(events ...ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range events {
		l.committed[event] = struct{}{}
	}
}

// RolledBack records events that were written in a transaction that never tried to commit.
func (l *Ledger) RolledBack(events ...ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range events {
		l.rolledBack[event] = struct{}{}
	}
}

// Poisoned notes events that no subscriber can ever handle.
func (l *Ledger) Poisoned(events ...ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range events {
		l.poison[event] = struct{}{}
	}
}

// FailsForAWhile notes events that subscribers cannot handle for a while.
func (l *Ledger) FailsForAWhile(events ...ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range events {
		l.failing[event] = struct{}{}
	}
}

// UnknownType notes a type of events that some copies of a subscriber do not know for a while.
func (l *Ledger) UnknownType(subscriber, eventType string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unknown[unknown{subscriber, eventType}] = struct{}{}
}

// Aggregates returns the number of acknowledged aggregates.
func (l *Ledger) Aggregates() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// Transactions returns the number of events whose commit was acknowledged, and the number of events that were rolled back.
func (l *Ledger) Transactions() (committed, rolledBack int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.committed), len(l.rolledBack)
}

// IsPoison reports whether Poisoned has recorded an event.
func (l *Ledger) IsPoison(event ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, is := l.poison[event]
	return is
}
