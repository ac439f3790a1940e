package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// StreamInfo is the state of the stream.
type StreamInfo struct {
	Created       string // identity of the stream; opaque. A stream that was deleted and created again has another one
	FirstSequence uint64 // of the first message that the stream still holds
	LastSequence  uint64 // of the last message ever stored, even if it was deleted since; 0: none
	Base          uint64 // the sequence before the stream's first message: 0, unless it was created to start higher
	Messages      uint64 // how many messages the stream holds
	Session       uint64 // of the connection; it changes when the connection was lost, since an older stream may have come back
	Largest       int    // size in bytes of the largest message that the broker accepts
	Unreadable    bool   // subscribers cannot read the stream with its present settings; Open corrects that
}

// MessageMeta is what the relay has written on a message of the stream.
type MessageMeta struct {
	Own      bool            // the relay wrote the message; if false, the other fields are empty
	Progress outbox.Progress // the last row of the log that was dealt with once the message was stored
	Event    outbox.Position // position of the event in the message; 0: the message is a ControlMessage
	Redriven bool            // the event was redriven, so it comes after later events

	// The fields of a ControlMessage.
	Parked          string
	Confirms        bool
	LastOwnSequence uint64
}

// Adopted reports whether m is the control message of an operator: the log goes on after m.Progress.
func (m MessageMeta) Adopted() bool { return m.Own && m.Event == 0 && m.Parked == "" && !m.Confirms }

// MaxRedriven returns the highest sequence at which redriven events can still be in the stream, given that m, at sequence, is our
// last message there. If the stream holds none of our messages, m is zero.
func (m MessageMeta) MaxRedriven(sequence uint64) uint64 {
	switch {
	case !m.Own || m.Redriven:
		return sequence
	case m.Event == 0:
		return min(m.LastOwnSequence, sequence-1)
	}
	return sequence - 1
}

// ControlMessage is a message by which a relay or an operator records a decision in the stream. It is appended with the same
// compare-and-swap as events, so that decisions and events have one order. Subscribers skip it.
type ControlMessage struct {
	outbox.Progress        // the relay has dealt with the log up to here
	Parked          string // why the event at Progress was parked; empty: nothing was parked

	// Confirms marks a message that only proves where the stream ended: from then on, no earlier append can be stored. A
	// message that neither parks nor confirms is an operator's: the log goes on after Progress.
	Confirms bool

	// LastOwnSequence is the sequence of our last message before this one. The stream does not hold any event that was
	// redriven above it, even if a message has that sequence: a stream that lost messages uses their sequences again.
	LastOwnSequence uint64
}

// Publisher appends to the stream. Sequences have no gaps: the message after S is S+1.
//
// One relay at a time uses a Publisher, one call after the other. If the context of a call has ended, the next call may come while
// the former request is still under way.
type Publisher interface {
	// Open brings the settings of the stream up to date and returns its state. It never shrinks the stream. If the stream does
	// not exist, Open creates it so that its first message has the sequence first; if first is 0, it returns ErrStreamMissing
	// instead. If the stream cannot be made fit, Open returns its state and ErrStreamUnfit.
	Open(ctx context.Context, first uint64) (StreamInfo, error)

	// Look returns the state of the stream and changes nothing. If the stream does not exist, it returns ErrStreamMissing. If
	// the stream is unfit in a way that Open cannot correct, it returns the state and ErrStreamUnfit. Size and subject checks
	// of later appends use the settings that Open or Look read last.
	Look(ctx context.Context) (StreamInfo, error)

	// At returns what is written on the message at sequence, or ErrNoMessage.
	At(ctx context.Context, sequence uint64) (MessageMeta, error)

	// Publish appends batch in order, directly after the message at sequence after. It returns the sequence of the last message
	// that it knows to be stored. That is after+len(batch) exactly if the error is nil. Each message carries the progress of
	// its entry.
	//
	// If the stream does not end at after, or the connection was lost since Open, Publish returns ErrTailMoved. If an entry
	// can never be stored, or no subscriber could read it (Entry.Unpublishable), Publish stores the entries before it and
	// returns a *RefusedError. After any other error, any part of the batch may be stored, now or soon: the caller looks at
	// the stream again.
	Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error)

	// Redrive is Publish for parked events. Each message carries the progress at, because the relay has long passed the events.
	Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error)

	// PublishControl appends message as Publish appends an event. It cuts a long reason.
	PublishControl(ctx context.Context, after uint64, message ControlMessage) (uint64, error)
}

// StreamRepair is the stream as an operator repairs it.
type StreamRepair interface {
	Publisher

	// Raise lets the next message of an empty stream have the sequence first. It never lowers sequences. If the stream holds
	// messages, Raise changes nothing and returns ErrTailMoved.
	Raise(ctx context.Context, first uint64) (StreamInfo, error)
}

// Finder looks for events in the stream. It is safe for concurrent use.
type Finder interface {
	// Find returns the time at which the stream stored the event, or ErrNoMessage. If sequence is not 0, it looks only there.
	// Else it searches by position. That finds no redriven event: pass the sequence of such an event.
	Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error)
}
