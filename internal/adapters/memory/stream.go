package memory

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Stream is a broker's stream with compare-and-swap appends. Its methods that are not in a port simulate failures, and changes by operators.
type Stream struct {
	mu              sync.Mutex
	made            int // number of the last stream that the broker made
	incarnation     int // number of this stream
	exists          bool
	base            uint64 // messages[i] has sequence base+i+1
	messages        []streamed
	legacyConsumers map[string]inbox.LegacyConsumer // by subscriber; see Reader
	readers         []chan struct{}                 // signaled when a message was stored
	storedAt        time.Time                       // when the last message was stored
	restarts        int

	prefix     string // with which every subject begins
	maxPayload int
	unfit      string // why the relay cannot publish correctly; empty: it can
	unreadable string // why subscribers cannot read; empty: they can
}

type streamed struct {
	entry   outbox.Entry
	meta    relay.MessageMeta
	at      time.Time
	deleted bool
}

// Message is a message of the engine as the stream holds it.
type Message struct {
	relay.MessageMeta
	Entry outbox.Entry // empty for a control message
}

var (
	_ relay.StreamRepair = (*Stream)(nil)
	_ relay.Finder       = (*Stream)(nil)
)

// NewStream returns a broker without the stream; Open creates it. It takes payloads up to 1 MiB, under subjects that begin with "things.",
// as the contract suites have them. LimitSubjects changes that.
func NewStream() *Stream {
	return &Stream{prefix: "things.", maxPayload: 1 << 20, legacyConsumers: make(map[string]inbox.LegacyConsumer)}
}

// NewOtherStream returns another broker without the stream. Its streams have other identities than those of the first broker.
func NewOtherStream() *Stream {
	s := NewStream()
	s.made = 1_000_000
	return s
}

// announce signals the readers.
func (s *Stream) announce() {
	for _, reader := range s.readers {
		select {
		case reader <- struct{}{}:
		default:
		}
	}
}

// store appends a message. Its time is later than the time of every earlier message, even if the clock of a test stands still.
func (s *Stream) store(message streamed) {
	message.at = time.Now()
	if !message.at.After(s.storedAt) {
		message.at = s.storedAt.Add(1)
	}
	s.storedAt = message.at
	s.messages = append(s.messages, message)
	s.announce()
}

// last returns the sequence of the last message. message returns the message at a sequence between base and last.
func (s *Stream) last() uint64                      { return s.base + uint64(len(s.messages)) }
func (s *Stream) message(sequence uint64) *streamed { return &s.messages[sequence-s.base-1] }

// has reports whether the stream holds a message at sequence.
func (s *Stream) has(sequence uint64) bool {
	return s.base < sequence && sequence <= s.last() && !s.message(sequence).deleted
}

// make makes a new stream. Its first message gets the sequence first.
func (s *Stream) make(first uint64) {
	s.made++
	s.exists, s.incarnation, s.base = true, s.made, first-1
}

// Open makes the stream if first is not 0 and the stream does not exist.
func (s *Stream) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	if err := ctx.Err(); err != nil {
		return relay.StreamInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		if first == 0 {
			return relay.StreamInfo{}, relay.ErrStreamMissing
		}
		s.make(first)
		s.announce()
	}
	return s.info(), s.fit()
}

// Look does not make the stream.
func (s *Stream) Look(ctx context.Context) (relay.StreamInfo, error) {
	if err := ctx.Err(); err != nil {
		return relay.StreamInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		return relay.StreamInfo{}, relay.ErrStreamMissing
	}
	return s.info(), s.fit()
}

// Raise forgets the messages that were deleted.
func (s *Stream) Raise(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	if err := ctx.Err(); err != nil {
		return relay.StreamInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch info := s.info(); {
	case !s.exists:
		return relay.StreamInfo{}, relay.ErrStreamMissing
	case info.Messages > 0:
		return relay.StreamInfo{}, relay.ErrTailMoved.With("the stream holds %d messages", info.Messages)
	case info.LastSequence+1 < first:
		s.base, s.messages = first-1, nil
	}
	return s.info(), nil
}

func (s *Stream) info() relay.StreamInfo {
	info := relay.StreamInfo{
		Created: strconv.Itoa(s.incarnation), LastSequence: s.last(), Base: s.base, Session: uint64(s.restarts), Largest: s.maxPayload,
	}
	for sequence := s.last(); sequence > s.base; sequence-- {
		if s.has(sequence) {
			info.FirstSequence = sequence
			info.Messages++
		}
	}
	if info.Messages == 0 {
		info.FirstSequence = info.LastSequence + 1
	}
	return info
}

// At returns what the engine wrote on the message at sequence.
func (s *Stream) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	if err := ctx.Err(); err != nil {
		return relay.MessageMeta{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		return relay.MessageMeta{}, relay.ErrStreamMissing
	}
	if !s.has(sequence) {
		return relay.MessageMeta{}, relay.ErrNoMessage
	}
	return s.message(sequence).meta, nil
}

// Find looks at all messages.
func (s *Stream) Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, message := range s.messages {
		here := sequence == s.base+uint64(i)+1 || sequence == 0 && !message.meta.Redriven
		if here && !message.deleted && message.meta.Event == event.Position && message.entry.ID == event.EventID {
			return message.at, nil
		}
	}
	return time.Time{}, relay.ErrNoMessage
}

// Publish appends the entries before the first one that the stream refuses.
func (s *Stream) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return s.append(ctx, after, batch, func(e outbox.Entry) relay.MessageMeta {
		return relay.MessageMeta{Own: true, Progress: e.Progress(), Event: e.Position}
	})
}

// Redrive appends the entries before the first one that the stream refuses.
func (s *Stream) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return s.append(ctx, after, batch, func(e outbox.Entry) relay.MessageMeta {
		return relay.MessageMeta{Own: true, Progress: at, Event: e.Position, Redriven: true}
	})
}

// PublishControl appends a control message.
func (s *Stream) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ends(ctx, after); err != nil {
		return after, err
	}
	s.store(streamed{meta: relay.MessageMeta{
		Own: true, Progress: notice.Progress, Parked: notice.Parked, Confirms: notice.Confirms && notice.Parked == "",
		LastOwnSequence: notice.LastOwnSequence,
	}})
	return after + 1, nil
}

func (s *Stream) append(
	ctx context.Context, after uint64, batch []outbox.Entry, stamp func(outbox.Entry) relay.MessageMeta,
) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ends(ctx, after); err != nil {
		return after, err
	}
	for i, entry := range batch {
		if reason := s.refuses(entry); reason != "" {
			return after + uint64(i), &relay.RefusedError{Entry: entry, Reason: reason}
		}
		s.store(streamed{entry: entry, meta: stamp(entry)})
	}
	return after + uint64(len(batch)), nil
}

// ends returns nil if the stream ends at a sequence, and otherwise why a message cannot be appended there.
func (s *Stream) ends(ctx context.Context, after uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.exists {
		return relay.ErrStreamMissing
	}
	if s.last() != after {
		return relay.ErrTailMoved
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
	if !strings.HasPrefix(entry.Subject, s.prefix) {
		return "its subject " + entry.Subject + " is not the stream's"
	}
	return ""
}

// LimitSubjects changes with what every subject of the stream begins.
func (s *Stream) LimitSubjects(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefix = prefix
}

// LimitPayload changes how many bytes the largest payload may have.
func (s *Stream) LimitPayload(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxPayload = bytes
}

// AppendForeign stores a message that another program wrote.
func (s *Stream) AppendForeign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(streamed{})
}

// AppendCopy stores a copy of the message at sequence.
func (s *Stream) AppendCopy(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(*s.message(sequence))
}

// Delete removes the message at sequence, as an operator or a limit does.
func (s *Stream) Delete(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.message(sequence).deleted = true
}

// LoseAfter puts an older copy of the store back: the messages after sequence are gone. The broker restarts for this, which ends every
// connection.
func (s *Stream) LoseAfter(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts++
	s.messages = slices.Clone(s.messages[:sequence-s.base])
	s.announce()
}

// Copy copies the store, and returns a function that puts the copy back.
func (s *Stream) Copy() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, base, incarnation := slices.Clone(s.messages), s.base, s.incarnation
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.restarts++
		s.exists, s.incarnation = true, incarnation
		s.base, s.messages = base, slices.Clone(kept)
		s.announce()
	}
}

// Drop deletes the stream and the consumers of earlier versions of the program.
func (s *Stream) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exists, s.base, s.messages = false, 0, nil
	clear(s.legacyConsumers)
	s.announce()
}

// Recreate deletes the stream and makes a new one of the same name.
func (s *Stream) Recreate() {
	s.Drop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.make(1)
	s.announce()
}

// LastSequence returns the sequence of the last message.
func (s *Stream) LastSequence() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last()
}

// LastSequenceBefore returns the sequence of the last message that was stored before a time.
func (s *Stream) LastSequenceBefore(cutoff time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sequence := s.last()
	for sequence > s.base && !s.message(sequence).at.Before(cutoff) {
		sequence--
	}
	return sequence
}

// Restarts returns how often the broker was restarted.
func (s *Stream) Restarts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

// Messages returns the messages of the engine in stream order, control messages included.
func (s *Stream) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ours []Message
	for _, message := range s.messages {
		if message.meta.Own && !message.deleted {
			ours = append(ours, Message{message.meta, message.entry})
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
