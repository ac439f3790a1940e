package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Finder finds an event in a stream without an index. Progress never falls along the stream, so Finder uses a binary search. The search takes
// about as many requests as the stream's length has binary digits.
//
// Finder asks the stream's leader. The client's own GetMsg would ask any replica, and could mistake a stored status header for an answer of
// the server.
type Finder struct {
	directReader
	js jetstream.JetStream
}

var _ relay.Finder = (*Finder)(nil)

// NewFinder returns a finder for the stream that o names. It asks the broker nothing.
func NewFinder(nc *nats.Conn, o PublisherOptions) (*Finder, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(defaultTimeout))
	if err != nil {
		return nil, err
	}
	return &Finder{directReader: newDirectReader(nc, o.Stream), js: js}, nil
}

// Find may miss an event if an operator has moved the relay back, because then the progress falls at one point of the stream. Find never
// returns an event that the stream does not hold.
func (f *Finder) Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error) {
	ctx, done := whileConnected(ctx, f.nc, defaultTimeout)
	defer done()
	stream, err := f.js.Stream(ctx, f.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return time.Time{}, relay.ErrNoMessage.With("stream %s does not exist", f.stream)
	}
	if err != nil {
		return time.Time{}, classify(ctx, err)
	}
	if sequence == 0 {
		if sequence, err = f.first(ctx, stream.CachedInfo().State, event.Position); err != nil {
			return time.Time{}, classify(ctx, err)
		}
	}
	message, meta, err := f.from(ctx, sequence)
	if err != nil {
		return time.Time{}, classify(ctx, err)
	}
	if meta.Event != event.Position || idOf(message) != event.EventID {
		return time.Time{}, relay.ErrNoMessage.With("the stream does not hold event %s", event.EventID)
	}
	return message.StoredAt, nil
}

// first returns the first sequence whose progress has reached position.
func (f *Finder) first(ctx context.Context, state jetstream.StreamState, position outbox.Position) (uint64, error) {
	low, high := state.FirstSeq, state.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		message, meta, err := f.from(ctx, middle)
		switch {
		case errors.Is(err, relay.ErrNoMessage), err == nil && meta.Progress.Position >= position:
			high = middle
		case err != nil:
			return 0, err
		default:
			low = message.Sequence + 1
		}
	}
	return low, nil
}

// from reads the first message of the relay at a sequence or after it.
func (f *Finder) from(ctx context.Context, sequence uint64) (stored, relay.MessageMeta, error) {
	for {
		message, err := f.askLeader(ctx, sequence, ">")
		if errorCode(err) == jetstream.JSErrCodeMessageNotFound {
			return stored{}, relay.MessageMeta{}, relay.ErrNoMessage
		}
		if err != nil {
			return stored{}, relay.MessageMeta{}, err
		}
		if meta := metaOf(message.header); meta.Own {
			return message, meta, nil
		}
		sequence = message.Sequence + 1
	}
}

func idOf(message stored) string {
	entry, err := decode(message.subject, message.header, nil)
	if err != nil {
		return ""
	}
	return entry.ID
}
