package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// StreamInfo is where a stream stands.
type StreamInfo struct {
	Created       string // identity: opaque, differs for a stream that was deleted and made anew
	FirstSequence uint64 // before it there is no message any more
	LastSequence  uint64 // of the last message ever stored, deleted or not; 0: none
	Base          uint64 // the sequence before the first one that the stream ever had: 0, unless it was created with another
	Messages      uint64 // that the stream holds
	Session       uint64 // of the connection that was asked; differs once that was lost, and the stream may be an older one
	Largest       int    // size in bytes of the largest message that the broker takes
	Unreadable    bool   // subscribers cannot read the stream as it is set; Open changes that
}

// MessageMeta is what the engine wrote on a message of the stream.
type MessageMeta struct {
	Own             bool            // false: somebody else's message, the rest is empty
	Progress        outbox.Progress // the last row of the log that was dealt with once this message was stored
	Event           outbox.Position // of the event that the message carries; 0: it is a ControlMessage
	Redriven        bool            // the event came later than its place in the log
	Parked          string          // of a ControlMessage
	Confirms        bool            // of a ControlMessage
	LastOwnSequence uint64          // of a ControlMessage
}

// Adopted reports whether an operator's notice says that the log goes on after Progress.
func (s MessageMeta) Adopted() bool { return s.Own && s.Event == 0 && s.Parked == "" && !s.Confirms }

// Held is up to which sequence the stream may hold what was redriven, if this is stamped on its last message of ours, at
// sequence, or if there is none up to there.
func (s MessageMeta) MaxRedriven(sequence uint64) uint64 {
	switch {
	case !s.Own || s.Redriven:
		return sequence
	case s.Event == 0:
		return min(s.LastOwnSequence, sequence-1)
	}
	return sequence - 1
}

// Publisher appends to the stream. Sequences are contiguous: the message after S is S+1.
//
// One Publisher is used by one relay at a time: its methods are not called concurrently, except after a call's context
// has ended.
type Publisher interface {
	// Open reports where the stream stands, after bringing its configuration up to date without ever shrinking it. If
	// there is no stream, Open creates it, and first is the sequence of its first message. If first is 0, Open creates
	// nothing and returns ErrStreamMissing. Open reads the stream back after a change. If the stream cannot be made fit, Open
	// returns ErrStreamUnfit, together with where the stream stands.
	Open(ctx context.Context, first uint64) (StreamInfo, error)

	// Look reports where the stream stands, and changes nothing; if there is none, the answer is ErrStreamMissing. What is
	// judged by the stream's configuration is judged by what was seen last. If the stream is unfit in a way that Open would not
	// repair, Look returns ErrStreamUnfit, together with where the stream stands.
	Look(ctx context.Context) (StreamInfo, error)

	// At reads what is stamped on the message at sequence, or answers ErrNoMessage.
	At(ctx context.Context, sequence uint64) (MessageMeta, error)

	// Publish appends batch, in order, directly after the message at sequence after, and returns the sequence of the last
	// message it knows to be stored: after+len(batch) exactly when the error is nil.
	//
	// An entry that can never be stored ends the batch: what stands before it is stored, and the error is a *RefusedError.
	// So does an entry that no subscriber could read (Entry.Unpublishable).
	// ErrTailMoved says that the stream did not end at after. On any other error anything between nothing and the whole
	// batch may be stored, now or shortly: the caller has to look at the stream again.
	//
	// The message of each entry says that the log was dealt with up to that entry. When the connection was lost since Open,
	// the answer is ErrTailMoved: a stream that has come back may be an older one.
	Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error)

	// Redrive is Publish for events that come later than their place in the log: each message says that the log was dealt
	// with up to at.
	Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error)

	// Notify appends a notice as Publish appends an event. Of a long reason it keeps the beginning.
	PublishControl(ctx context.Context, after uint64, notice ControlMessage) (uint64, error)
}

// StreamRepair is the stream as an operator repairs it.
type StreamRepair interface {
	Publisher

	// Raise gives the next message of an empty stream the sequence first. It never lowers sequences. A stream that holds
	// messages stays as it is, and the answer is ErrTailMoved.
	Raise(ctx context.Context, first uint64) (StreamInfo, error)
}

// Finder looks for events in the stream. It is safe for concurrent use.
type Finder interface {
	// Find returns when the stream stored the event, or answers ErrNoMessage if it does not hold it. It looks at sequence, if
	// that is not 0, and else where the event stands by its position: one that came later than its place in the log is found
	// by its sequence only.
	Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error)
}
