package operations

import (
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// State is what the relay does, in a word that scripts rely on.
type RelayState string

// The states of the relay.
const (
	Halted     RelayState = "halted"     // it stopped on purpose and waits for a person
	SetBack    RelayState = "set_back"   // the log's sequence went back, and the relay has not said so
	Leaderless RelayState = "leaderless" // nobody leads
	Waiting    RelayState = "waiting"    // an open transaction holds the log up
	Stuck      RelayState = "stuck"      // events wait, and the leader does not come on
	Relaying   RelayState = "relaying"
)

const (
	longOpen  = time.Second     // for a transaction that writes the log to be worth a word
	longStuck = 5 * time.Second // several times what the relay needs to say that it has come on
)

// State tells what the relay does.
func (s RelayStatus) State() RelayState {
	switch {
	case s.Halt != nil:
		return Halted
	case s.NeedsRepair():
		return SetBack
	case s.Leader == nil:
		return Leaderless
	case s.Unpublished > 0 && s.HoldsUp():
		return Waiting
	case s.heldUp() && s.Now.Sub(s.SavedAt) > longStuck:
		return Stuck
	}
	return Relaying
}

// HoldsUp reports whether an open transaction may be what is waited for.
func (s RelayStatus) HoldsUp() bool {
	if s.OldestTransaction == nil || s.OldestTransaction.Since.IsZero() {
		return s.OldestTransaction != nil && s.heldUp()
	}
	return s.Now.Sub(s.OldestTransaction.Since) > longOpen
}

// heldUp reports whether an event waits for longer than it takes to publish it.
func (s RelayStatus) heldUp() bool { return s.Unpublished > 0 && s.Now.Sub(s.Oldest) > longStuck }

// meanings is the list behind Meaning.
var meanings = map[relay.HaltReason]string{
	relay.HaltStreamMissing:  "The stream was deleted, or NATS_URL names another server.",
	relay.HaltStreamReplaced: "The stream was deleted and made anew, or NATS_URL names another server.",
	relay.HaltTailGone:       "The end of the stream was deleted or has expired, so it does not say any more what was published last.",
	relay.HaltTailCopied:     "Somebody stored a copy of an old message at the end of the stream.",
	relay.HaltTailForeign:    "Somebody else wrote or changed the end of the stream.",
	relay.HaltLogPurged:      "The stream lost messages which cannot be published again, because retention has removed them from the log.",
	relay.HaltHistoryLost:    "The database lost committed events, or DATABASE_URL names another one.",
	relay.HaltStreamUnfit:    "Somebody changed the stream, or a NATS server is too old. Nothing is published until that is repaired; then the relay goes on by itself.",
	relay.HaltSequenceBehind: "The sequence of outbox.position went back: a data-only restore, logical replication, RESTART, or setval.",
}

// Meaning says what the halt means to whoever has to deal with it; empty for a reason that a later version gave.
func (h Halt) Meaning() string { return meanings[h.Reason] }

// Adoptable reports whether an adoption is what repairs the halt. Others end by themselves, once their cause is repaired.
func (h Halt) Adoptable() bool { return h.Reason != relay.HaltStreamUnfit }

// ErrAggregate : the text names no aggregate.
var ErrAggregate = fault.New(fault.Invalid, "invalid_aggregate", "not an aggregate")

// ParseAggregate reads TYPE/ID, or the id of an order.
func ParseAggregate(text string) (outbox.Key, error) {
	if kind, id, ok := strings.Cut(text, "/"); ok && kind != "" && id != "" && outbox.IsText(text) {
		return outbox.Key{Type: kind, ID: id}, nil
	}
	id, err := order.ParseID(text)
	if err != nil {
		const reason = "is neither the UUID of an order nor the TYPE/ID of another aggregate"
		return outbox.Key{}, ErrAggregate.With("%q %s", text, reason).On("aggregate", reason)
	}
	return outbox.Key{Type: orders.AggregateType, ID: string(id)}, nil
}
