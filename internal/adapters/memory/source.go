package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// consumer is what the stream remembers of a subscriber, however many copies of it there are. The stream's mutex guards
// it.
type consumer struct {
	acked    uint64    // every message up to here was dealt with
	pending  uint64    // the message under way, 0: none
	attempt  int       // how often that was handed out
	handout  int       // counts deliveries, so that a stale one cannot delay the event
	comeback time.Time // when the message under way is handed out again
}

func (c *consumer) regress(last uint64) {
	c.acked = min(c.acked, last)
	if c.pending > last {
		c.pending = 0
	}
}

// Source delivers a Stream to one copy of a subscriber. Sources of the same subscriber share one place in the stream and
// have one event under way between them; the place outlives them. It is safe for concurrent use.
type Source struct {
	stream     *Stream
	subscriber string
	ackWait    time.Duration
}

var _ inbox.Source = (*Source)(nil)

// NewSource returns the source of a copy of a subscriber. A subscriber that the stream does not know begins with the
// first event; one that neither acknowledges nor extends within ackWait gets the event again.
func NewSource(stream *Stream, subscriber string, ackWait time.Duration) *Source {
	return &Source{stream: stream, subscriber: subscriber, ackWait: ackWait}
}

// Next implements the port.
func (s *Source) Next(ctx context.Context) (inbox.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		delivery, changed, comeback, err := s.take()
		if err != nil {
			return nil, err
		}
		if delivery != nil {
			return delivery, nil
		}
		wait(ctx, changed, comeback)
	}
}

// take hands out the message that is due. If there is none it says what to wait for: a change, and the time at which
// the message under way comes back, if there is one.
func (s *Source) take() (*delivery, <-chan struct{}, time.Time, error) {
	s.stream.mu.Lock()
	defer s.stream.mu.Unlock()
	if !s.stream.exists {
		return nil, nil, time.Time{}, inbox.ErrNoStream
	}
	c := s.stream.consumers[s.subscriber]
	if c == nil {
		c = &consumer{}
		s.stream.consumers[s.subscriber] = c
	}
	if c.pending != 0 && s.stream.message(c.pending).hidden() {
		c.acked, c.pending = c.pending, 0
	}
	if c.pending != 0 && time.Now().Before(c.comeback) {
		return nil, s.stream.changed, c.comeback, nil
	}
	if c.pending == 0 {
		sequence := max(c.acked, s.stream.base) + 1
		for sequence <= s.stream.last() && s.stream.message(sequence).hidden() {
			sequence++
		}
		if sequence > s.stream.last() {
			return nil, s.stream.changed, time.Time{}, nil
		}
		c.pending, c.attempt = sequence, 0
	}
	c.handout++
	c.attempt++
	c.comeback = time.Now().Add(s.ackWait)
	return &delivery{
		source: s, consumer: c, sequence: c.pending, attempt: c.attempt, handout: c.handout, message: *s.stream.message(c.pending),
	}, nil, time.Time{}, nil
}

func wait(ctx context.Context, changed <-chan struct{}, comeback time.Time) {
	var due <-chan time.Time // never, when nothing is under way
	if !comeback.IsZero() {
		timer := time.NewTimer(time.Until(comeback))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-due:
	}
}

type delivery struct {
	source   *Source
	consumer *consumer
	sequence uint64
	attempt  int
	handout  int
	message  streamed
}

// Entry implements the port.
func (d *delivery) Entry() (outbox.Entry, error) {
	if !d.message.stamp.Ours {
		return outbox.Entry{}, inbox.ErrUnreadable
	}
	return d.message.entry, nil
}

// Raw implements the port. A message of somebody else says hello.
func (d *delivery) Raw() (outbox.Message, uint64) {
	if !d.message.stamp.Ours {
		return outbox.Message{Subject: prefix + "stray", Payload: []byte("hello")}, d.sequence
	}
	return outbox.Message{
		Subject: d.message.entry.Subject, Headers: d.message.entry.Headers, Payload: d.message.entry.Payload,
	}, d.sequence
}

// Attempt implements the port.
func (d *delivery) Attempt() int { return d.attempt }

// Ack implements the port. It counts for the event, whichever delivery of it is acknowledged, and may be repeated.
func (d *delivery) Ack(ctx context.Context) error {
	return d.settle(ctx, func(c *consumer) { c.acked, c.pending = d.sequence, 0 })
}

// Retry implements the port.
func (d *delivery) Retry(ctx context.Context, after time.Duration) error {
	return d.postpone(ctx, after)
}

// Extend implements the port.
func (d *delivery) Extend(ctx context.Context) error { return d.postpone(ctx, d.source.ackWait) }

// ExtendEvery implements the port.
func (d *delivery) ExtendEvery() time.Duration { return d.source.ackWait / 3 }

// postpone decides when the event comes again, unless it was handed out once more since.
func (d *delivery) postpone(ctx context.Context, after time.Duration) error {
	return d.settle(ctx, func(c *consumer) {
		if c.handout == d.handout {
			c.comeback = time.Now().Add(after)
		}
	})
}

// settle applies change while the event is under way; what was settled before stays as it is.
func (d *delivery) settle(ctx context.Context, change func(*consumer)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.source.stream.mu.Lock()
	defer d.source.stream.mu.Unlock()
	if d.consumer.pending == d.sequence {
		change(d.consumer)
		d.source.stream.announce()
	}
	return nil
}
