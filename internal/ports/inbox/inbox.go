// Package inbox is what a subscriber needs from the outside: a stream that it reads in order, checkpoints in its database that say
// how far it has come, and transactions that apply the effects of events once and move the checkpoint with them.
//
// Package inboxtest holds the executable contract of each interface.
package inbox

import (
	"context"
	"errors"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrUnreadable reports that a message is not an event that this program can read.
var ErrUnreadable = fault.New(fault.Refused, "unreadable_event", "the message is not an event that can be read")

// ErrPermanent reports a failure that no retry can heal. A handler wraps its error in it, and adapters wrap what the database says
// about the event's data: SQLSTATE class 22, 23502, 23514 and 54000.
var ErrPermanent = fault.New(fault.Refused, "permanent_failure", "the event can never be handled")

// Permanent reports whether trying again cannot help.
func Permanent(err error) bool {
	return errors.Is(err, ErrPermanent) || errors.Is(err, ErrUnreadable) || errors.Is(err, ErrNoHandler)
}

// ErrNoHandler reports that the program has no handler for the type of an event. Another program may have one.
var ErrNoHandler = fault.New(fault.Refused, "no_handler", "no handler for its type in the program that met it")

// Handler applies the effect of one event. The subscriber calls it for one event at a time and in order per aggregate; with more
// than one lane, it calls it for events of different aggregates at the same time.
type Handler interface {
	// Name is the handler's name. A subscriber has the same handler for ever.
	Name() string
	// Types returns the types of events that the handler can handle, in order.
	Types() []string
	// External reports whether Handle calls something outside of the transaction. Such a handler gets one event a transaction, and a
	// context that ends before Postgres would end the transaction. It is not called when the transaction is too old for that, so first
	// calls are in order per aggregate. The event's id is the key by which the other side knows a repeated call.
	External() bool
	// Handle applies the effect of entry through ports that take tx, and through nothing else: the transaction also records that
	// the event was applied. Many events may share a transaction, so such a port may write what it collects later, before the
	// commit. If Handle fails, nothing of the transaction is kept, and Handle is called again. The failure of one event never holds
	// up those of other aggregates, unless it is a fault.Unavailable: an outage, which holds the lane until it is over. It fails
	// with ErrNoHandler for an event of another type than Types.
	Handle(ctx context.Context, tx Tx, entry outbox.Entry) error
	// Applied reports that the effect of entry is committed. The subscriber calls it for what people and scripts want to see in
	// a log, and only after small batches. A crash loses the call.
	Applied(ctx context.Context, entry outbox.Entry)
}

// Function handles the events of one type, as Handler.Handle does.
type HandlerFunc func(ctx context.Context, tx Tx, entry outbox.Entry) error

// Tx is the transaction in which an event is handled. Ports that write in it take it. It is dead once UnitOfWork.Apply or
// DeadLetters.Redeliver returns.
type Tx interface {
	// Subscriber is the name of the subscriber for which the event is handled.
	Subscriber() string
}
