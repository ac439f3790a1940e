package memory

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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
	restarts    int

	maxPayload int
}

type streamed struct {
	entry   outbox.Entry
	stamp   ports.Stamp
	at      time.Time
	deleted bool
}

// hidden reports whether no subscriber gets the message: it is gone, or a notice.
func (m streamed) hidden() bool { return m.deleted || m.stamp.Ours && m.stamp.Event == 0 }

// Message is a message of ours as it stands in the stream.
type Message struct {
	ports.Stamp
	Entry outbox.Entry // empty for a notice
}

var (
	_ ports.Publisher = (*Stream)(nil)
	_ ports.Finder    = (*Stream)(nil)
)

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
	return s.info(), nil
}

// Look implements the port.
func (s *Stream) Look(ctx context.Context) (ports.StreamInfo, error) {
	if err := ctx.Err(); err != nil {
		return ports.StreamInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		return ports.StreamInfo{}, ports.ErrStreamMissing
	}
	return s.info(), nil
}

func (s *Stream) info() ports.StreamInfo {
	first := 1
	for first <= len(s.messages) && s.messages[first-1].deleted {
		first++
	}
	return ports.StreamInfo{
		Created: strconv.Itoa(s.incarnation), FirstSequence: uint64(first), LastSequence: uint64(len(s.messages)),
		Session: uint64(s.restarts),
	}
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
	return s.messages[sequence-1].stamp, nil
}

// Find implements the port.
func (s *Stream) Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, message := range s.messages {
		here := sequence == uint64(i+1) || sequence == 0 && !message.stamp.Redriven
		if here && !message.deleted && message.stamp.Event == event.Position && message.entry.ID == event.EventID {
			return message.at, nil
		}
	}
	return time.Time{}, ports.ErrNoMessage
}

// Publish implements the port.
func (s *Stream) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return s.append(ctx, after, batch, func(e outbox.Entry) ports.Stamp {
		return ports.Stamp{Ours: true, Progress: e.Progress(), Event: e.Position}
	})
}

// Redrive implements the port.
func (s *Stream) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return s.append(ctx, after, batch, func(e outbox.Entry) ports.Stamp {
		return ports.Stamp{Ours: true, Progress: at, Event: e.Position, Redriven: true}
	})
}

// Notify implements the port.
func (s *Stream) Notify(ctx context.Context, after uint64, notice outbox.Notice) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ends(ctx, after); err != nil {
		return after, err
	}
	s.messages = append(s.messages, streamed{
		at: time.Now(), stamp: ports.Stamp{Ours: true, Progress: notice.Progress, Parked: notice.Parked, Kept: notice.Kept},
	})
	s.announce()
	return after + 1, nil
}

func (s *Stream) append(
	ctx context.Context, after uint64, batch []outbox.Entry, stamp func(outbox.Entry) ports.Stamp,
) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ends(ctx, after); err != nil {
		return after, err
	}
	for i, entry := range batch {
		if reason := s.refuses(entry); reason != "" {
			return after + uint64(i), &ports.RefusedError{Entry: entry, Reason: reason}
		}
		s.messages = append(s.messages, streamed{
			at: time.Now(), entry: entry, stamp: stamp(entry),
		})
		s.announce()
	}
	return after + uint64(len(batch)), nil
}

// ends says why nothing can be appended after a sequence.
func (s *Stream) ends(ctx context.Context, after uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.exists {
		return ports.ErrStreamMissing
	}
	if uint64(len(s.messages)) != after && !s.careless {
		return ports.ErrTailMoved
	}
	return nil
}

func (s *Stream) refuses(entry outbox.Entry) string {
	if reason := entry.Unpublishable(); reason != "" {
		return reason
	}
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

// Regress puts an older copy of the store back: what came after sequence is gone. That takes a restart of the broker, which
// ends every connection.
func (s *Stream) Regress(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts++
	s.messages = slices.Clone(s.messages[:sequence])
	for _, consumer := range s.consumers {
		consumer.regress(sequence)
	}
	s.announce()
}

// Copy remembers the store as it is, and returns how to put it back.
func (s *Stream) Copy() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := slices.Clone(s.messages)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.restarts++
		s.messages = slices.Clone(kept)
		s.announce()
	}
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

// Before is the sequence of the last message that was stored before a time.
func (s *Stream) Before(cutoff time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sequence := uint64(len(s.messages))
	for sequence > 0 && !s.messages[sequence-1].at.Before(cutoff) {
		sequence--
	}
	return sequence
}

// Restarts is how often the broker was restarted.
func (s *Stream) Restarts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

// Messages returns our messages in stream order, notices included.
func (s *Stream) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ours []Message
	for _, message := range s.messages {
		if message.stamp.Ours && !message.deleted {
			ours = append(ours, Message{message.stamp, message.entry})
		}
	}
	return ours
}

// Entries returns the events in stream order.
func (s *Stream) Entries() []outbox.Entry {
	var entries []outbox.Entry
	for _, message := range s.Messages() {
		if message.Event != 0 {
			entries = append(entries, message.Entry)
		}
	}
	return entries
}

// IgnoreTail turns the compare-and-swap off. It exists for the mutant that proves that tests notice.
func (s *Stream) IgnoreTail() { s.careless = true }
