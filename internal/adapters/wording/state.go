package wording

import (
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	longOpen  = time.Second     // a transaction that writes the outbox is reported after this time
	longStuck = 5 * time.Second // several times the interval at which the relay saves its cursor
	// stalledAfter is the time after which a subscriber is called stalled: a lane has messages to handle and has not moved. The alert
	// OutboxieSubscriberStalled uses the same time.
	stalledAfter = time.Minute
)

// RelayState is the state of the relay as one word. The words are part of the contract with scripts.
type RelayState string

// The states of the relay.
const (
	Halted     RelayState = "halted"
	SetBack    RelayState = "set_back"
	Leaderless RelayState = "leaderless"
	Waiting    RelayState = "waiting"
	Stuck      RelayState = "stuck"
	Relaying   RelayState = "relaying"
)

// StateOf returns the state of the relay.
func StateOf(s operations.RelayStatus) RelayState {
	switch {
	case s.Halt != nil:
		return Halted
	case s.NeedsRepair(): // and no relay has halted for it yet
		return SetBack
	case s.Leader == nil:
		return Leaderless
	case s.Unpublished > 0 && mayDelayRelay(s):
		return Waiting
	case overdue(s) && s.Now.Sub(s.SavedAt) > longStuck:
		return Stuck
	}
	return Relaying
}

// mayDelayRelay reports whether an open transaction may hold up the relay.
func mayDelayRelay(s operations.RelayStatus) bool {
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

// SubscriberState is the state of a subscriber as one word. The words are part of the contract with scripts.
type SubscriberState string

// The states of a subscriber.
const (
	Forgotten SubscriberState = "forgotten"
	Paused    SubscriberState = "paused"
	NotBegun  SubscriberState = "not_begun"
	NoCopies  SubscriberState = "no_copies"
	Working   SubscriberState = "working"
)

// SubscriberStateOf returns the state of a subscriber.
func SubscriberStateOf(s inbox.Overview) SubscriberState {
	switch {
	case !s.Forgotten.IsZero():
		return Forgotten
	case s.Paused:
		return Paused
	case len(s.Lanes) == 0:
		return NotBegun
	case len(s.Copies) == 0:
		return NoCopies
	}
	return Working
}

// DescribeSubscriber describes the state of a subscriber, and since when.
func DescribeSubscriber(s inbox.Overview, now time.Time) string {
	switch state := SubscriberStateOf(s); state {
	case Paused:
		return "paused for " + Age(s.PausedFor)
	case Forgotten:
		return "forgotten for " + Age(now.Sub(s.Forgotten))
	case NotBegun:
		return "not begun"
	case NoCopies:
		return "no copies"
	default:
		return string(state)
	}
}

// DescribeSummary does the same as DescribeSubscriber. If the subscriber works but is stalled, DescribeSummary returns for how long.
func DescribeSummary(s operations.SubscriberSummary, now time.Time) string {
	if SubscriberStateOf(s.Overview) == Working && s.Stalled > stalledAfter {
		return "stalled for " + Age(s.Stalled)
	}
	return DescribeSubscriber(s.Overview, now)
}
