// Package inbox is what a subscriber needs from the outside: deliveries in order, and a transaction that applies the
// effect of an event once.
//
// Package inboxtest holds the executable contract of each interface.
package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrUnreadable : the message is not an event that this program can read.
var ErrUnreadable = fault.New(fault.Refused, "unreadable_event", "the message is not an event that can be read")

// ErrNoStream : nothing was ever published, so there is no stream to wait at. It comes with the first leader; ask again.
var ErrNoStream = fault.New(fault.Unavailable, "no_stream_yet", "the stream does not exist yet")

// ErrConsumerUnfit reports that what the broker keeps for the subscriber was made by somebody else, so that events would be left
// out or lost. Its text says what to do.
var ErrConsumerUnfit = fault.New(fault.Conflict, "consumer_unfit", "the broker's consumer is not as the subscriber needs it")

// Source delivers the stream's events to one subscriber.
type Source interface {
	// Next waits for the next event, or answers ErrNoStream or ErrConsumerUnfit. Events come in stream order and one at a time over all
	// copies of the subscriber: the next one is handed out when the one before it was acknowledged. An event that is
	// neither acknowledged nor extended in time, or that is to be retried, comes again before any later one.
	Next(ctx context.Context) (Delivery, error)
}

// Delivery is one event, handed out once more or for the first time.
type Delivery interface {
	// Entry is the event as it stands in the stream; RecordedAt is its CloudEvents time. It answers ErrUnreadable for
	// a message that is not one of the engine's.
	Entry() (outbox.Entry, error)
	// Raw is the message as it lies in the stream, whoever wrote it: subject, headers (the values of one name joined by
	// line breaks, which none can contain) and payload. Sequence is its place.
	Raw() (message outbox.Message, sequence uint64)
	// Attempt is how often the event has been handed out to the subscriber's copies, this time included; 0 if that is not
	// known.
	Attempt() int
	// Ack says that the event was dealt with. A lost acknowledgement means that the event comes again.
	Ack(ctx context.Context) error
	// Retry asks for the event again after a delay.
	Retry(ctx context.Context, after time.Duration) error
	// Extend keeps the event from being handed out again while work on it goes on.
	Extend(ctx context.Context) error
	// ExtendEvery is how often Extend must be called to be in time.
	ExtendEvery() time.Duration
}

// Handler deals with an event. It is called again when it fails, and may be called again after it succeeded: it makes sure
// itself that the effect happens once. It does so with UnitOfWork.Once, also for an event that has no effect: that is what
// ends the event's dead letter.
type Handler interface {
	Handle(ctx context.Context, entry outbox.Entry) error
}

// Decoder reads the order event out of a message, or answers ErrUnreadable.
type Decoder interface {
	Decode(message outbox.Message) (order.Event, error)
}

// UnitOfWork applies effects once.
type UnitOfWork interface {
	// Once runs fn in a transaction that also records entry as applied by subscriber, and commits. If it was recorded
	// before, or set aside (see DeadLetters), fn is not run and applied is false; if an earlier event of its aggregate was,
	// the answer is ErrHeld. Of several concurrent calls one applies; the others wait for it. On any error neither effect
	// nor record is kept. fn may run again, so it has no side effects outside tx. A letter of the event ends with it.
	Once(ctx context.Context, subscriber string, entry outbox.Entry, fn func(ctx context.Context, tx Tx) error) (applied bool, err error)
}

// Tx is the subscriber's side of a transaction. It is dead once Once returns.
type Tx struct {
	Totals Totals
}

// Totals is the sample effect: what each customer ordered, per currency, as one subscriber has seen it.
type Totals interface {
	// Add counts one order of amount.
	Add(ctx context.Context, customer order.CustomerID, amount order.Money) error
}
