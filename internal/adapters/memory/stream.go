package memory

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// Stream is a broker's stream with compare-and-swap appends. Its methods beyond the port are the misfortunes that can
// befall a stream.
type Stream struct {
	mu          sync.Mutex
	incarnation int
	exists      bool
	messages    []streamed           // messages[i] has sequence i+1
	consumers   map[string]*consumer // by subscriber; see Source
	changed     chan struct{}
	careless    bool

	maxPayload int
}

type streamed struct {
	entry   outbox.Entry
	ours    bool
	deleted bool
}

var _ ports.Publisher = (*Stream)(nil)

// prefix is what every subject of the stream begins with.
const prefix = "orders."

// NewStream returns a broker without the stream; Open creates it. It takes payloads up to 1 MiB under orders.
func NewStream() *Stream {
	return &Stream{maxPayload: 1 << 20, consumers: make(map[string]*consumer), changed: make(chan struct{})}
}

func (s *Stream) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Open implements the port.
func (s *Stream) Open(ctx context.Context, create bool) (ports.StreamInfo, error) {
	if err := ctx.Err(); err != nil {
		return ports.StreamInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		if !create {
			return ports.StreamInfo{}, ports.ErrStreamMissing
		}
		s.exists = true
		s.incarnation++
		s.announce()
	}
	return ports.StreamInfo{Created: strconv.Itoa(s.incarnation), LastSequence: uint64(len(s.messages))}, nil
}

// At implements the port.
func (s *Stream) At(ctx context.Context, sequence uint64) (ports.Stamp, error) {
	if err := ctx.Err(); err != nil {
		return ports.Stamp{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		return ports.Stamp{}, ports.ErrStreamMissing
	}
	if sequence == 0 || sequence > uint64(len(s.messages)) || s.messages[sequence-1].deleted {
		return ports.Stamp{}, ports.ErrNoMessage
	}
	message := s.messages[sequence-1]
	if !message.ours {
		return ports.Stamp{}, nil
	}
	return ports.Stamp{Ours: true, Progress: message.entry.Progress()}, nil
}

// Publish implements the port.
func (s *Stream) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return after, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		return after, ports.ErrStreamMissing
	}
	if uint64(len(s.messages)) != after && !s.careless {
		return after, ports.ErrTailMoved
	}
	for i, entry := range batch {
		if reason := s.refuses(entry); reason != "" {
			return after + uint64(i), &ports.RefusedError{Entry: entry, Reason: reason}
		}
		s.messages = append(s.messages, streamed{entry: entry, ours: true})
		s.announce()
	}
	return after + uint64(len(batch)), nil
}

func (s *Stream) refuses(entry outbox.Entry) string {
	if len(entry.Payload) > s.maxPayload {
		return "it is larger than " + strconv.Itoa(s.maxPayload) + " bytes"
	}
	if !strings.HasPrefix(entry.Subject, prefix) {
		return "its subject " + entry.Subject + " is not the stream's"
	}
	return ""
}

// LimitPayload changes how many bytes the largest payload may have.
func (s *Stream) LimitPayload(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxPayload = bytes
}

// AppendForeign stores a message that somebody else wrote.
func (s *Stream) AppendForeign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, streamed{})
	s.announce()
}

// AppendCopy stores a copy of the message at sequence.
func (s *Stream) AppendCopy(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, s.messages[sequence-1])
	s.announce()
}

// Delete removes the message at sequence, as an operator or a limit does.
func (s *Stream) Delete(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages[sequence-1].deleted = true
}

// Regress puts an older copy of the store back: what came after sequence is gone.
func (s *Stream) Regress(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = slices.Clone(s.messages[:sequence])
	for _, consumer := range s.consumers {
		consumer.regress(sequence)
	}
	s.announce()
}

// Drop deletes the stream, and what its subscribers had acknowledged with it.
func (s *Stream) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exists, s.messages = false, nil
	clear(s.consumers)
	s.announce()
}

// Recreate deletes the stream and makes a new one of the same name.
func (s *Stream) Recreate() {
	s.Drop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exists = true
	s.incarnation++
	s.announce()
}

// Len is the sequence of the last message.
func (s *Stream) Len() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.messages))
}

// Entries returns our messages in stream order.
func (s *Stream) Entries() []outbox.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []outbox.Entry
	for _, message := range s.messages {
		if message.ours && !message.deleted {
			entries = append(entries, message.entry)
		}
	}
	return entries
}

// IgnoreTail turns the compare-and-swap off. It exists for the mutant that proves that tests notice.
func (s *Stream) IgnoreTail() { s.careless = true }
