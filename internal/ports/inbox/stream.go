package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

var (
	// ErrNoStream reports that there is no stream yet: the relay's first leader creates it. Try again.
	ErrNoStream = fault.New(fault.Unavailable, "no_stream_yet", "the stream does not exist yet")
	// ErrStreamUnreadable reports that the stream cannot be read until a person changes something at the broker. Its text says what.
	ErrStreamUnreadable = fault.New(fault.Conflict, "stream_unreadable", "the stream cannot be read")
)

// StreamPosition is a position in the stream: a message's sequence, and the time at which the stream stored the message. A stream that
// loses its end gives the same sequences to other messages, but never with the same time.
type StreamPosition struct {
	Sequence uint64    // 0: before the first message
	StoredAt time.Time // to the nanosecond; zero: not known
	// Progress is the position up to which the relay had published or parked the log when the message was stored; 0: not known. Later messages
	// have later positions, unless they were redriven. Two positions with the same Sequence and StoredAt are the same, whatever their
	// Progress.
	Progress outbox.Position
}

// Message is one message of the stream.
type Message struct {
	StreamPosition
	// Event is nil if no subscriber gets the message: it is a control message, or its subject is not a subject of events.
	Event *Event
	// Parks reports that this control message took the place of an event that the relay parked. Progress is the event's position.
	Parks bool
}

// Event is an event as the stream holds it.
type Event struct {
	outbox.Entry
	Sequence uint64
	// Unreadable says why the message cannot be read as an event; nil: it can. An unreadable message has no aggregate. It has a subject, headers
	// (with the values of one name joined by line breaks), a payload, and an ID that is made from its sequence and content.
	Unreadable error
	// Suspect reports that the event failed in an earlier batch. It is handled within a savepoint, so that its failure does not undo the batch.
	Suspect bool
	// NoHandler reports that the subscriber wants the event but this program has no handler for its type. The event becomes a dead letter.
	NoHandler bool
}

// StreamState is where the stream begins and ends, according to the server that leads the stream in the broker's cluster.
type StreamState struct {
	Created string // identity: when the stream was created
	First   uint64 // sequence of the first message
	Last    uint64 // sequence of the last message; First-1: the stream is empty
}

// ReadLimit bounds one read. At least one message is read, whatever its size.
type ReadLimit struct {
	Count int
	Bytes int
}

// Stream is the stream as one copy of a subscriber reads it. The broker does not record what a subscriber has read: the checkpoints are
// only in the subscriber's database. Stream is safe for concurrent use.
type Stream interface {
	// Read returns the messages from a sequence on, in order. If from is 0, Read begins with the first message. A sequence that is missing
	// between from and the last returned message belongs to a message that was removed. Read returns no messages if the server that answers
	// knows no message at from or later. It fails with ErrNoStream, with ErrStreamUnreadable or with a fault.Unavailable.
	Read(ctx context.Context, from uint64, limit ReadLimit) ([]Message, error)
	// State returns where the stream begins and ends. It fails as Read does.
	State(ctx context.Context) (StreamState, error)
	// Stored returns a channel that is signaled soon after something was stored in the stream. Signals may be lost, so a reader also polls.
	Stored() <-chan struct{}
	// LegacyConsumer returns the subscriber's durable consumer. Earlier versions of this program read the stream through it, and this
	// version begins where it stands. found is false if there is no such consumer. LegacyConsumer fails as Read does.
	LegacyConsumer(ctx context.Context) (consumer LegacyConsumer, found bool, err error)
}

// LegacyConsumer is how far an earlier version of this program has come.
type LegacyConsumer struct {
	Sequence uint64 // every message up to here was acknowledged
	Busy     bool   // a copy of that version waits for events, or works on one
}
