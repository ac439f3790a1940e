package inbox

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrEmittedBefore reports that the log already has an event of this id: the same handler has handled the same event for another subscriber.
var ErrEmittedBefore = fault.New(fault.Refused, "emitted_before", "the handler emitted this event before, for another subscriber")

// Emitter lets a handler append events to the log, in the transaction in which it handles an event. The relay publishes them like any other. It
// is safe for concurrent use.
type Emitter interface {
	// Emit collects messages that follow from cause, the event that is being handled. Emit keeps the order of the messages of an aggregate.
	// The caller leaves the ID of each message empty, and Emit sets it to EmittedID. The messages are sorted by aggregate and written last
	// in the transaction, because readers of the log wait for each transaction that has written to the log.
	//
	// The versions of an aggregate have to rise in the order of the commits. So either all events of an aggregate follow from events of one
	// other aggregate, or the handler locks a row of its own before it chooses the version.
	//
	// Emit fails with outbox.ErrInvalidMessage if a message is invalid. The write at the end fails with relay.ErrVersionTaken if the
	// version is taken, and with ErrEmittedBefore if the log has the id.
	Emit(ctx context.Context, tx Tx, cause outbox.Entry, messages ...outbox.Message) error
}
