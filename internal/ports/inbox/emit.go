package inbox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrEmittedBefore reports that the log has an event of this id already: the same handler has handled the same event before, for another
// subscriber.
var ErrEmittedBefore = fault.New(fault.Refused, "emitted_before", "the handler emitted this event before, for another subscriber")

// Emitter appends events to the log in the transaction in which an event is handled. The relay publishes them like any other. It is safe for
// concurrent use.
type Emitter interface {
	// Emit appends messages that follow from cause, the event in hand, in their order. Each message gets its ID, which is EmittedID; the
	// caller leaves the ID empty. Emit collects, and the messages are written after everything else that the transaction's handlers have
	// collected, in order of the aggregate, because the log's readers wait for a transaction that has written there.
	//
	// The versions of an aggregate have to ascend with the order of the commits. So all events of an aggregate follow from events of one
	// other aggregate, or the handler locks a row of its own before it chooses the version.
	//
	// Emit fails with outbox.ErrInvalidMessage. A version that is taken fails the write, with ErrVersionTaken of package outbox, and so does
	// an id that the log has, with ErrEmittedBefore.
	Emit(ctx context.Context, tx Tx, cause outbox.Entry, messages ...outbox.Message) error
}

// Emission is what handlers emit in a transaction, for adapters of Emitter.
type EmitBuffer struct {
	messages []outbox.Message
	cause    string // id of the event in hand
	count    int    // events that follow from it so far
}

// Add adds what a handler emits because of the event in hand: all messages, or none if one is invalid.
func (e *EmitBuffer) Add(handler string, cause outbox.Entry, messages []outbox.Message) error {
	if e.cause != cause.ID {
		e.cause, e.count = cause.ID, 0
	}
	added := slices.Clone(messages)
	for n := range added {
		added[n].ID = EmittedID(handler, cause, e.count+n)
		if err := added[n].Validate(); err != nil {
			return err
		}
	}
	e.messages = append(e.messages, added...)
	e.count += len(added)
	return nil
}

// Len is how many messages there are.
func (e *EmitBuffer) Len() int { return len(e.messages) }

// Messages returns everything in order of the aggregate, so that transactions that append for the same aggregates take the unique keys in
// the same order. Messages of one aggregate keep their order.
func (e *EmitBuffer) Messages() []outbox.Message {
	return slices.SortedStableFunc(slices.Values(e.messages), func(a, b outbox.Message) int {
		return cmp.Or(cmp.Compare(a.Key.Type, b.Key.Type), cmp.Compare(a.Key.ID, b.Key.ID))
	})
}

// EmittedID returns the id of the event that a handler emits as the nth, from 0 on, because of an event. It follows from its arguments
// alone: when an event is handled again, be it because the database has lost a commit or for a subscriber of another name, what is emitted
// has the same ids, so that the log refuses it, or every subscriber drops it. It is a version 8 UUID that begins with the time in the
// cause's id, so that ids of about the same time are close to each other in an index.
func EmittedID(handler string, cause outbox.Entry, n int) string {
	const timed = len("01934567-89ab-")
	sum := sha256.Sum256([]byte(handler + "\x00" + cause.ID + "\x00" + strconv.Itoa(n)))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	text := hex.EncodeToString(sum[:16])
	id := fmt.Sprintf("%s-%s-%s-%s-%s", text[:8], text[8:12], text[12:16], text[16:20], text[20:])
	if len(cause.ID) == len(id) {
		id = cause.ID[:timed] + id[timed:]
	}
	return id
}
