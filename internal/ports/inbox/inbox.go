// Package inbox is what a subscriber needs from the outside: a stream that it reads in order, checkpoints in its database that say
// how far it has come, and transactions that apply the effects of events once and move the checkpoint with them.
//
// Package inboxtest holds the executable contract of each interface.
package inbox

import (
	"context"
	"errors"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrUnreadable reports that a message is not an event that this program can read.
var ErrUnreadable = fault.New(fault.Refused, "unreadable_event", "the message is not an event that can be read")

// ErrPermanent reports a failure that no retry can heal. A handler wraps its error in it, and adapters wrap what the database says
// about the event's data: SQLSTATE class 22, 23502, 23514 and 54000.
var ErrPermanent = fault.New(fault.Refused, "permanent_failure", "the event can never be handled")

// Permanent reports whether trying again cannot help.
func Permanent(err error) bool {
	return errors.Is(err, ErrPermanent) || errors.Is(err, ErrUnreadable)
}

// Handler applies the effect of one event. The subscriber calls it for one event at a time and in order per aggregate; with more
// than one lane, it calls it for events of different aggregates at the same time.
type Handler interface {
	// Handle applies the effect of entry through tx, and through nothing else: the transaction also records that the event was
	// applied. Many events may share a transaction, so tx may write what it collects later, before the commit. If Handle fails,
	// nothing of the transaction is kept, and Handle is called again. The failure of one event never holds up those of other
	// aggregates, unless it is a fault.Unavailable: an outage, which holds the lane until it is over.
	Handle(ctx context.Context, tx Tx, entry outbox.Entry) error
	// Applied reports that the effect of entry is committed. The subscriber calls it for what people and scripts want to see in
	// a log, and only after small batches. A crash loses the call.
	Applied(ctx context.Context, entry outbox.Entry)
}

// Decoder reads the order event out of a message. It fails with ErrUnreadable.
type Decoder interface {
	Decode(message outbox.Message) (order.Event, error)
}

// Tx is the subscriber's side of a transaction. It is dead once UnitOfWork.Apply or DeadLetters.Redeliver returns.
type Tx struct {
	Totals Totals
}

// Totals is the sample effect: what each customer ordered, per currency, as one subscriber has seen it.
type Totals interface {
	// Add counts one order of amount. It may collect what it is given; a failure to write that names no event.
	Add(ctx context.Context, customer order.CustomerID, amount order.Money) error
}
