package memory

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Reader reads a Stream for one copy of a subscriber.
type Reader struct {
	// Behind returns how many of the last messages the server that answers a Read does not know. BehindState returns the same for State, which
	// another server may answer. nil: the server knows all messages.
	Behind, BehindState func() uint64

	stream     *Stream
	subscriber string
	stored     chan struct{}
}

var _ inbox.Stream = (*Reader)(nil)

// NewReader returns a reader for a copy of a subscriber.
func NewReader(stream *Stream, subscriber string) *Reader {
	r := &Reader{stream: stream, subscriber: subscriber, stored: make(chan struct{}, 1)}
	stream.mu.Lock()
	defer stream.mu.Unlock()
	stream.readers = append(stream.readers, r.stored)
	return r
}

// known returns the last sequence that a server knows.
func (s *Stream) known(behind uint64) uint64 { return s.last() - min(behind, s.last()-s.base) }

// ask calls Behind or BehindState; nil means 0.
func ask(behind func() uint64) uint64 {
	if behind == nil {
		return 0
	}
	return behind()
}

// readableBy returns why a subscriber cannot read the stream, or nil.
func (s *Stream) readableBy(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !s.exists:
		return inbox.ErrNoStream
	case s.unreadable != "":
		return inbox.ErrStreamUnreadable.With("%s", s.unreadable)
	}
	return nil
}

// Read returns what the server knows.
func (r *Reader) Read(ctx context.Context, from uint64, limit inbox.ReadLimit) ([]inbox.Message, error) {
	behind, s := ask(r.Behind), r.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readableBy(ctx); err != nil {
		return nil, err
	}
	var messages []inbox.Message
	bytes, last := 0, s.known(behind)
	for sequence := max(from, s.base+1); sequence <= last && len(messages) < max(1, limit.Count); sequence++ {
		stored := s.message(sequence)
		if stored.deleted {
			continue
		}
		bytes += len(stored.entry.Payload) + outbox.HeadersSize(stored.entry.Headers)
		if bytes > limit.Bytes && len(messages) > 0 {
			break
		}
		messages = append(messages, stored.as(sequence, s.prefix))
	}
	return messages, nil
}

// as returns the message as subscribers get it. A message that another program wrote has the payload hello.
func (m *streamed) as(sequence uint64, prefix string) inbox.Message {
	at := inbox.StreamPosition{Sequence: sequence, StoredAt: m.at, Progress: m.meta.Progress.Position}
	message := inbox.Message{StreamPosition: at, Parks: m.meta.Parked != ""}
	switch {
	case m.meta.Own && m.meta.Event == 0:
	case m.entry.ID == "":
		foreign := outbox.Message{Subject: prefix + "stray", Payload: []byte("hello")}
		foreign.ID = fmt.Sprintf("unreadable-%d-%x", sequence, sha256.Sum256(foreign.Payload))
		message.Event = &inbox.Event{
			Entry: outbox.Entry{Message: foreign}, Sequence: sequence, Unreadable: inbox.ErrUnreadable.With("it is not one of the engine's"),
		}
	default:
		message.Event = &inbox.Event{Entry: m.entry, Sequence: sequence}
	}
	return message
}

// State returns what the server knows.
func (r *Reader) State(ctx context.Context) (inbox.StreamState, error) {
	behind, s := ask(r.BehindState), r.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readableBy(ctx); err != nil {
		return inbox.StreamState{}, err
	}
	info, last := s.info(), s.known(behind)
	return inbox.StreamState{Created: info.Created, First: min(info.FirstSequence, last+1), Last: last}, nil
}

// Stored returns a channel that is signaled at once.
func (r *Reader) Stored() <-chan struct{} { return r.stored }

// LegacyConsumer returns the consumer that AddLegacyConsumer has added.
func (r *Reader) LegacyConsumer(ctx context.Context) (inbox.LegacyConsumer, bool, error) {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	if err := r.stream.readableBy(ctx); err != nil {
		return inbox.LegacyConsumer{}, false, err
	}
	consumer, found := r.stream.legacyConsumers[r.subscriber]
	return consumer, found, nil
}

// AddLegacyConsumer adds a consumer to the stream, as an earlier version of the program has left it.
func (s *Stream) AddLegacyConsumer(subscriber string, consumer inbox.LegacyConsumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.legacyConsumers[subscriber] = consumer
}

// MakeUnreadable makes the stream unreadable for subscribers, with a reason. If reason is empty, they can read it again.
func (s *Stream) MakeUnreadable(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unreadable = reason
}
