package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrNoStream reports that there is no stream yet: it comes with the first leader. Ask again.
var ErrNoStream = fault.New(fault.Unavailable, "no_stream_yet", "the stream does not exist yet")

// ErrStreamUnfit reports that a person has to change something at the broker before the stream can be read. Its text says what.
var ErrStreamUnfit = fault.New(fault.Conflict, "stream_unreadable", "the stream cannot be read")

// Place is a message in the stream, known by its sequence and the time at which the stream stored it. A stream that loses its end
// uses sequences again, but not with the same time.
type StreamPosition struct {
	Sequence uint64    // 0: before the first message
	StoredAt time.Time // to the nanosecond; zero: not known
	// Progress is up to which position the log was dealt with when the message was stored; 0: not known. What came later in the
	// stream has later positions, unless it was redriven. It says nothing about whether two places are the same.
	Progress outbox.Position
}

// Message is one message of the stream.
type Message struct {
	StreamPosition
	// Event is nil for what no subscriber gets: the engine's control messages, and whatever is not on the subjects of events.
	Event *Event
	// Parks says that it is a control message which took the place of the event at its progress, because that was parked.
	Parks bool
}

// Event is an event as the stream holds it.
type Event struct {
	outbox.Entry
	Sequence uint64
	// Unreadable says why the message cannot be read as an event; nil: it can. An unreadable message has an ID made from its
	// sequence and content, a subject, headers (the values of one name joined by line breaks) and a payload, and no aggregate.
	Unreadable error
	// Suspect says that the event failed in a batch before. It gets a savepoint of its own, so that its failure leaves the rest
	// of the batch alone.
	Suspect bool
	// NoHandler says that the subscriber wants the event, and that this program has no function for its type. It becomes a letter.
	NoHandler bool
}

// StreamState is where the stream begins and ends, as its leader says.
type StreamState struct {
	Created string // identity: when the stream was created
	First   uint64 // sequence of the first message
	Last    uint64 // sequence of the last message; First-1 when the stream is empty
}

// ReadLimit bounds how much is read at once. At least one message is read whatever its size.
type ReadLimit struct {
	Count int
	Bytes int
}

// Stream is read by one copy of a subscriber. Reading leaves no trace at the broker: how far a subscriber has come stands in its
// database alone. It is safe for concurrent use.
type Stream interface {
	// Read returns the messages from a sequence on, that one included, in order. Sequences that are missing between the first and
	// the last of them belong to messages that were removed, and so do those between from and the first. It returns nothing when
	// the stream has no message there or later, as far as the server that answers knows. It fails with ErrNoStream,
	// ErrStreamUnfit or a fault.Unavailable.
	Read(ctx context.Context, from uint64, limit ReadLimit) ([]Message, error)
	// State returns where the stream begins and ends. It fails as Read does.
	State(ctx context.Context) (StreamState, error)
	// Stored is signaled soon after something was stored in the stream. Signals may be lost, so a reader looks from time to time
	// besides.
	Stored() <-chan struct{}
	// Former returns how far the subscriber had come by the durable consumer that programs of before kept at the broker, so that
	// a new program begins there; false if there is none. Busy says that copies of such a program work on it now. It fails as
	// Read does.
	Former(ctx context.Context) (former Former, found bool, err error)
}

// Former is where a durable consumer of a program of before stands.
type Former struct {
	Sequence uint64 // everything up to here was acknowledged
	Busy     bool   // a copy waits for events, or works on one
}
