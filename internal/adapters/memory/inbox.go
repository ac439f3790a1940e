package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Inbox is the database of a subscriber: checkpoints, records of events, dead letters and totals. Its transactions behave like transactions
// of Postgres at READ COMMITTED, in separate steps.
type Inbox struct {
	database

	// OnStep is called between the steps of each transaction; nil: there is no pause. A test lets other goroutines run there.
	OnStep func(ctx context.Context, step string)
	// IdleTimeout is how long a transaction may take between two statements. After this time the database ends the transaction. 0: there is
	// no limit.
	IdleTimeout time.Duration
	// MarkEvery replaces inbox.MarkEvery, so that a test with few messages has marks.
	MarkEvery uint64

	log         *Log // of the same database; nil: it has none
	lanes       map[laneKey]lane
	subscribers map[string]subscriber              // by name
	marks       map[laneKey][]inbox.StreamPosition // the oldest first
	copies      map[copyKey]time.Time              // when each was seen
	records     map[recordKey]record
	letters     map[letterKey]letter
	totals      map[totalKey]Total
	effects     []effect

	locks  map[any]*session          // by the row's key
	shares map[any]map[*session]bool // sessions that hold a share of a row, by the row's key
	begun  int64                     // how often lanes began
	freed  chan struct{}             // closed when a transaction has ended; nil: nobody waits
}

type effect struct {
	subscriber string
	entry      outbox.Entry
}

// recordKey is the key of the record of an event.
type recordKey struct{ subscriber, id string }

// record is a row of the inbox. It says that an event was applied, or that it was set aside.
type record struct {
	applied  bool
	at       time.Time
	sequence uint64 // where the event was read last; 0: not known
}

// NewInbox returns an empty inbox.
func NewInbox() *Inbox {
	return &Inbox{
		IdleTimeout: 10 * time.Second,
		MarkEvery:   inbox.MarkEvery,
		lanes:       make(map[laneKey]lane),
		subscribers: make(map[string]subscriber),
		marks:       make(map[laneKey][]inbox.StreamPosition),
		copies:      make(map[copyKey]time.Time),
		records:     make(map[recordKey]record),
		letters:     make(map[letterKey]letter),
		totals:      make(map[totalKey]Total),
		locks:       make(map[any]*session),
		shares:      make(map[any]map[*session]bool),
	}
}

// UseLog puts the inbox into the database of a log.
func (i *Inbox) UseLog(log *Log) { i.log = log }

// Applied reports whether subscriber has applied the event.
func (i *Inbox) Applied(subscriber, eventID string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.records[recordKey{subscriber, eventID}].applied
}

// History returns the events that subscriber has applied, in the order of the commits. Events of one transaction are in the order of the
// handler's calls.
func (i *Inbox) History(subscriber string) []outbox.Entry {
	i.mu.Lock()
	defer i.mu.Unlock()
	var applied []outbox.Entry
	for _, effect := range i.effects {
		if effect.subscriber == subscriber {
			applied = append(applied, effect.entry)
		}
	}
	return applied
}
