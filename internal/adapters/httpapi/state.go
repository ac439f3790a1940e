package httpapi

import (
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Operators see the state of the relay, and of each subscriber, as one word. The words are part of the contract with scripts. The command
// line uses the functions of this file.

const (
	longOpen  = time.Second     // a transaction that writes the outbox is reported after this time
	longStuck = 5 * time.Second // several times the interval at which the relay saves its cursor
)

// StateOf returns the state of the relay.
func StateOf(s operations.RelayStatus) OutboxStatusState {
	switch {
	case s.Halt != nil:
		return OutboxStatusStateHalted
	case s.NeedsRepair(): // and no relay has halted for it yet
		return OutboxStatusStateSetBack
	case s.Leader == nil:
		return OutboxStatusStateLeaderless
	case s.Unpublished > 0 && MayDelayRelay(s):
		return OutboxStatusStateWaiting
	case overdue(s) && s.Now.Sub(s.SavedAt) > longStuck:
		return OutboxStatusStateStuck
	}
	return OutboxStatusStateRelaying
}

// MayDelayRelay reports whether an open transaction may hold up the relay.
func MayDelayRelay(s operations.RelayStatus) bool {
	switch {
	case s.OldestTransaction == nil:
		return false
	case s.OldestTransaction.Since.IsZero(): // its age is unknown
		return overdue(s)
	}
	return s.Now.Sub(s.OldestTransaction.Since) > longOpen
}

// overdue reports whether an event has waited longer than publishing normally takes.
func overdue(s operations.RelayStatus) bool {
	return s.Unpublished > 0 && s.Now.Sub(s.Oldest) > longStuck
}

// haltMeanings are the texts of HaltMeaning.
var haltMeanings = map[relay.HaltReason]string{
	relay.HaltStreamMissing:  "The stream was deleted, or NATS_URL names another server.",
	relay.HaltStreamReplaced: "The stream was deleted and created again, or NATS_URL names another server.",
	relay.HaltTailGone:       "The end of the stream was deleted or has expired, so the stream does not show any more what was published last.",
	relay.HaltTailCopied:     "Somebody stored a copy of an old message at the end of the stream.",
	relay.HaltTailForeign:    "Somebody else wrote or changed the end of the stream.",
	relay.HaltLogPurged:      "The stream lost messages which cannot be published again, because retention has removed them from the log.",
	relay.HaltHistoryLost:    "The database lost committed events, or DATABASE_URL names another database.",
	relay.HaltStreamUnfit:    "Somebody changed the stream, or a NATS server is too old. Nothing is published until that is repaired; then the relay goes on by itself.",
	relay.HaltSequenceBehind: "The sequence of outbox.position went back: a data-only restore, logical replication, RESTART, or setval.",
}

// HaltMeaning explains a halt to an operator. It returns an empty text for a reason that this version does not know.
func HaltMeaning(reason relay.HaltReason) string { return haltMeanings[reason] }

// SubscriberStateOf returns the state of a subscriber.
func SubscriberStateOf(s inbox.Overview) SubscriberState {
	switch {
	case !s.Forgotten.IsZero():
		return SubscriberStateForgotten
	case s.Paused:
		return SubscriberStatePaused
	case len(s.Lanes) == 0:
		return SubscriberStateNotBegun
	case len(s.Copies) == 0:
		return SubscriberStateNoCopies
	}
	return SubscriberStateWorking
}
