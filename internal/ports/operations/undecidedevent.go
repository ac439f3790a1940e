package operations

import (
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Undecided is an event about which an operator has to decide: a dead letter of a subscriber, or the first parked event of an aggregate.
type UndecidedEvent struct {
	Position outbox.Position // 0: a message that is no event
	EventID  string
	Key      outbox.Key
	Type     string
	Reason   string // its beginning, which is all that a fault.Fingerprint needs
	First    time.Time
	Last     time.Time
	Behind   int // events of its aggregate that wait behind it. Each is counted for one undecided event
}

// Choice chooses undecided events. Each zero value chooses all.
type Choice struct {
	Group     string // the id of the fault.Fingerprint of their reason
	Type      string
	Aggregate outbox.Key
}

// Has reports whether the choice has an event.
func (c Choice) Has(u UndecidedEvent) bool {
	return (c.Type == "" || c.Type == u.Type) && (c.Aggregate == outbox.Key{} || c.Aggregate == u.Key) &&
		(c.Group == "" || c.Group == fault.NewFingerprint(u.Reason).ID)
}
