// Package inbox holds the ports of a subscriber: the stream that it reads, the database in which it keeps its checkpoints, and the
// transactions that apply the effect of each event once. Package subscribing drives these ports, adapters implement them, and the suites of
// package inboxtest check every implementation.
//
// Read Handler first: the author of a subscriber implements it. Then read Stream, Checkpoints, UnitOfWork and DeadLetters, which bring
// events to the handler. Log returns events that the stream has lost, Sweeper removes old records, Emitter lets handlers append events, and
// Operator lets people change a subscriber. The functions of this package are rules that several packages must follow in the same way. Each
// rule has a file of its own.
package inbox

import (
	"context"
	"errors"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrUnreadable reports that a message is not an event that this program can read.
var ErrUnreadable = fault.New(fault.Refused, "unreadable_event", "the message is not an event that can be read")

// ErrPermanent reports a failure that no retry can heal. A handler wraps its error in ErrPermanent. A UnitOfWork wraps a failure in
// ErrPermanent if the data of the event is the reason: a value does not fit, a value is missing, or a rule of the database forbids the
// value for ever.
var ErrPermanent = fault.New(fault.Refused, "permanent_failure", "the event can never be handled")

// Permanent reports whether err is a failure that no retry can heal.
func Permanent(err error) bool {
	return errors.Is(err, ErrPermanent) || errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNoHandler)
}

// ErrNoHandler reports that the program has no handler for the type of an event. Another program may have one.
var ErrNoHandler = fault.New(fault.Refused, "no_handler", "this program has no handler for the event's type")

// Handler applies the effects of events, one event at a time. The events of an aggregate come in order. If the subscriber has several lanes,
// Handler is called for events of different aggregates at the same time.
type Handler interface {
	// Name returns the handler's name. A subscriber keeps its handler for ever.
	Name() string
	// Types returns the types of events that the handler can handle, sorted.
	Types() []string
	// External reports whether Handle calls something outside of the transaction. An external handler gets one event in each transaction.
	// The context of each call ends before the transaction expires, and Handle is not called if the transaction is already too old for a
	// call. So the first calls for the events of an aggregate are in order. A call may be repeated: the other system recognizes a repeated
	// call by the event's id.
	External() bool
	// Handle applies the effect of entry through ports that take tx, and through nothing else, because the same transaction records that
	// the event was applied. Many events may share the transaction, so a port may collect its writes until just before the commit.
	//
	// If Handle fails, the transaction has no effect, and Handle is called again later. A fault.Unavailable is an outage: the whole lane
	// waits until the outage is over. Any other failure holds up only the later events of the same aggregate. Handle fails with
	// ErrNoHandler if Types does not contain the event's type.
	Handle(ctx context.Context, tx Tx, entry outbox.Entry) error
	// Applied is called after the effect of entry is committed. It is only for log lines that people and scripts wait for: there is no call
	// after a large batch, and a crash loses the call.
	Applied(ctx context.Context, entry outbox.Entry)
}

// HandlerFunc handles the events of one type, as Handler.Handle does.
type HandlerFunc func(ctx context.Context, tx Tx, entry outbox.Entry) error

// Tx is the transaction in which an event is handled. Ports that write in this transaction take it as an argument. Tx cannot be used after
// UnitOfWork.Apply or DeadLetters.Redeliver has returned.
type Tx interface {
	// Subscriber returns the name of the subscriber for which the event is handled.
	Subscriber() string
}
