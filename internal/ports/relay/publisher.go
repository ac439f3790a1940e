package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// StreamInfo is the state of the stream.
type StreamInfo struct {
	Created       string // opaque identity of the stream; a stream that was deleted and created again has another identity
	FirstSequence uint64 // sequence of the first message that the stream still holds
	LastSequence  uint64 // sequence of the last message ever stored, even if the message was deleted since; 0: none
	Base          uint64 // the sequence before the stream's first message: 0, unless it was created to start higher
	Messages      uint64 // how many messages the stream holds
	Session       uint64 // number of the connection; it changes when the connection was lost: meanwhile an older stream may have come back
	Largest       int    // size in bytes of the largest message that the broker accepts
	Unreadable    bool   // subscribers cannot read the stream with its present settings; Open corrects the settings
}

// MessageMeta is what the relay has written about a message into the message itself.
type MessageMeta struct {
	Own      bool            // the relay wrote the message; if false, the other fields are empty
	Progress outbox.Progress // the last row of the log that the relay has dealt with when the message is stored
	Event    outbox.Position // position of the event in the message; 0: the message is a ControlMessage
	Redriven bool            // the message is the redrive of a parked event, so it comes after later events

	// The fields of a ControlMessage.
	Parked          string
	Confirms        bool
	LastOwnSequence uint64
}

// Adopted reports whether m is the control message of an operator's repair. After such a message, the relay goes on in the log after
// m.Progress.
func (m MessageMeta) Adopted() bool { return m.Own && m.Event == 0 && m.Parked == "" && !m.Confirms }

// MaxRedriven returns the highest sequence at which a redriven event can be in the stream. m is the relay's last message in the
// stream, and has the given sequence. If the stream holds no message of the relay, m is zero.
func (m MessageMeta) MaxRedriven(sequence uint64) uint64 {
	switch {
	case !m.Own || m.Redriven:
		return sequence
	case m.Event == 0:
		return min(m.LastOwnSequence, sequence-1)
	}
	return sequence - 1
}

// ControlMessage is a message by which a relay or an operator records a decision in the stream. The publisher appends it
// with the same compare-and-swap as events, so that decisions and events have one order. Subscribers skip it.
type ControlMessage struct {
	outbox.Progress        // the relay has dealt with the log up to here
	Parked          string // why the event at Progress was parked; empty: nothing was parked

	// Confirms marks a message that only proves where the stream ends. Once this message is stored, no earlier append can be stored
	// any more. A message that neither parks nor confirms is an operator's repair: the relay goes on in the log after Progress.
	Confirms bool

	// LastOwnSequence is the sequence of the relay's last message before this message. An event that was redriven above
	// LastOwnSequence is not in the stream any more, even if a message has its sequence: a stream that lost messages gives out their
	// sequences again.
	LastOwnSequence uint64
}

// Publisher appends to the stream. Sequences have no gaps: the message after S is S+1.
//
// One relay at a time uses a Publisher, and makes one call after the other. If the context of a call ends, the request of that call may
// still be under way during the next call.
type Publisher interface {
	// Open brings the settings of the stream up to date and returns its state. It never shrinks the stream. If the stream does
	// not exist, Open creates it, and the first message gets the sequence first. If first is 0, Open does not create the stream and
	// returns ErrStreamMissing. If Open cannot make the stream fit, it returns the stream's state and ErrStreamUnfit.
	Open(ctx context.Context, first uint64) (StreamInfo, error)

	// Look returns the state of the stream and changes nothing. If the stream does not exist, Look returns ErrStreamMissing.
	// If the stream is unfit in a way that Open cannot correct, Look returns the state and ErrStreamUnfit. Later appends check sizes
	// and subjects by the settings that Open or Look has read last.
	Look(ctx context.Context) (StreamInfo, error)

	// At returns what the relay has written about the message at sequence, or ErrNoMessage.
	At(ctx context.Context, sequence uint64) (MessageMeta, error)

	// Publish appends batch in order, directly after the message at sequence after. It returns the sequence of the last message
	// that is certainly stored. This sequence is after+len(batch) if the error is nil, and only then. Each message carries the
	// progress of its entry.
	//
	// If the stream does not end at after, or the connection was lost since Open, Publish returns ErrTailMoved. If an entry
	// can never be stored, or no subscriber could read it (Entry.Unpublishable), Publish stores the entries before it and
	// returns a *RefusedError. After any other error, any part of the batch may be stored, now or later. So the caller
	// looks at the stream again.
	Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error)

	// Redrive does the same as Publish, for parked events. Each message carries the progress at, not the progress of its entry:
	// the relay has passed the entries before.
	Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error)

	// PublishControl appends message as Publish appends an event. It shortens a long reason in message.Parked.
	PublishControl(ctx context.Context, after uint64, message ControlMessage) (uint64, error)
}

// StreamRepair is the Publisher of an operator who repairs the stream.
type StreamRepair interface {
	Publisher

	// Raise changes an empty stream so that its next message gets the sequence first. It never lowers the next sequence. If the stream holds
	// messages, Raise changes nothing and returns ErrTailMoved.
	Raise(ctx context.Context, first uint64) (StreamInfo, error)
}

// Finder looks for events in the stream. It is safe for concurrent use.
type Finder interface {
	// Find returns the time at which the stream stored the event, or ErrNoMessage. If sequence is not 0, Find looks only at this
	// sequence. Otherwise Find searches by position. This search does not find a redriven event, so the caller passes the sequence
	// of a redriven event.
	Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error)
}
