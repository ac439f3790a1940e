package relay

import (
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ReadLimit bounds how much of the log is read at once. At least one entry is returned whatever its size.
type ReadLimit struct {
	Count int
	Bytes int // of payload and headers
	// Largest is the size of the largest message that the broker takes; 0: MaxPayload. The payload of an entry that is larger
	// is not read.
	Largest int
}

// LargestPayload returns up to which size a payload is read.
func (s ReadLimit) LargestPayload() int {
	if s.Largest == 0 {
		return outbox.MaxPayload
	}
	return s.Largest
}

// Cursor is a hint of how far the stream had come: it saves reading the tail, finds a stream that lost messages, and
// tells retention what it may delete. The stream's own tail decides.
type Cursor struct {
	outbox.Progress                 // EventID is that of the log's row there; empty when the row is gone
	StreamCreated   string          // identity of the stream the cursor was saved for; empty: none was ever seen
	StreamSequence  uint64          // sequence of our last message in it
	PurgedTo        outbox.Position // rows up to here may be missing because retention removed them
	// RecordedTo is not before any row up to Position was recorded that the relay passed: a row there that was recorded later
	// came after the relay. Only a save answers it. Zero: not known.
	RecordedTo time.Time
	Revision   int64 // how many fenced writes there were; see WriteFence
	Halt       *Halt // as it was reported last; nil: the relay is not halted
}

// Term is one leadership: while it lasts, its holder may try to relay. A Term is a reason to try, never a permission:
// every write is fenced by Token or by the stream's tail as well.
type Term struct {
	Token    int64     // fencing token; rises with every leadership
	Deadline time.Time // when the holder must stop trusting it; read against the monotonic clock
}

// WriteFence fences what a relay writes into the database. A write takes effect only while Token is the lease's, which keeps
// former leaders out, and only as the write that follows number Revision, which keeps out requests of the leader itself that
// it gave up and that arrive late. Each write that takes effect counts one.
type WriteFence struct{ Token, Revision int64 }
