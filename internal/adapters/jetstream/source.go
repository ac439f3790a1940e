package jetstream

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	defaultAckWait = 30 * time.Second
	pullExpiry     = 30 * time.Second
	heartbeat      = 2 * time.Second // a pull that hears nothing for two of these is given up
	farewell       = time.Second     // for giving back what was delivered but not taken
)

var validSubscriber = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// SourceOptions says who subscribes to what.
type SourceOptions struct {
	Stream     string
	Subscriber string        // the durable consumer's name: letters, digits, - and _; one per effect, shared by its copies
	Filter     string        // orders.> by default
	AckWait    time.Duration // an event that was not acknowledged or extended for so long comes again; 30 s by default
	Timeout    time.Duration // for the broker's answer to a request; 5 s by default
	Logger     *slog.Logger
}

// Source is a durable pull consumer with one event under way at a time: with more, new events would overtake those that
// come again. Each of several copies of a subscriber has its own Source; the broker keeps the order over all of them.
//
// Next is not called concurrently.
type Source struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	o        SourceOptions
	messages jetstream.MessagesContext // nil: the consumer has to be looked up first
}

var _ inbox.Source = (*Source)(nil)

// NewSource returns the source of one subscriber. It asks the broker nothing; Next creates the consumer when it is
// missing, to begin with the first event of the stream.
func NewSource(nc *nats.Conn, o SourceOptions) (*Source, error) {
	if !validSubscriber.MatchString(o.Subscriber) {
		return nil, fault.New(fault.Invalid, "invalid_subscriber", "a subscriber id has 1 to 64 letters, digits, - and _, unlike %q", o.Subscriber)
	}
	if o.Filter == "" {
		o.Filter = defaultSubjects
	}
	if o.AckWait == 0 {
		o.AckWait = defaultAckWait
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timeout))
	if err != nil {
		return nil, err
	}
	return &Source{nc: nc, js: js, o: o}, nil
}

// Next implements the port. It fails with a fault.Unavailable when the connection or the consumer is lost, and while
// there is no stream; the next call looks everything up anew.
func (s *Source) Next(ctx context.Context) (inbox.Delivery, error) {
	if err := s.subscribe(ctx); err != nil {
		return nil, err
	}
	waiting, done := whileConnected(ctx, s.nc, 0)
	defer done()
	message, err := s.messages.Next(jetstream.NextContext(waiting))
	if err == nil {
		return &delivery{message: message, nc: s.nc, ackWait: s.o.AckWait, timeout: s.o.Timeout}, nil
	}
	if ctx.Err() == nil { // else the pull goes on, and what it brings waits for the next call
		s.messages.Stop()
		s.messages = nil
	}
	return nil, classify(waiting, err)
}

func (s *Source) subscribe(ctx context.Context) error {
	if s.messages != nil {
		return nil
	}
	ctx, done := whileConnected(ctx, s.nc, s.o.Timeout)
	defer done()
	consumer, err := s.js.CreateOrUpdateConsumer(ctx, s.o.Stream, jetstream.ConsumerConfig{
		Durable:       s.o.Subscriber,
		FilterSubject: s.o.Filter,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.o.AckWait,
		MaxAckPending: 1,
		MaxDeliver:    -1,
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return ErrUnavailable.With("stream %s does not exist yet", s.o.Stream)
	}
	if err != nil {
		return classify(ctx, err)
	}
	s.messages, err = consumer.Messages(jetstream.PullMaxMessages(1),
		jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		s.messages = nil
		return classify(ctx, err)
	}
	s.o.Logger.Info("subscribed", "stream", s.o.Stream, "subscriber", s.o.Subscriber)
	return nil
}

// Close gives back an event that was delivered but never taken, so that another copy gets it at once. It is called after
// the last Next has returned.
func (s *Source) Close() {
	if s.messages == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	s.messages.Drain()
	for {
		message, err := s.messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			break
		}
		if err := message.Nak(); err != nil {
			s.o.Logger.Debug("could not give an event back", "error", err)
		}
	}
	s.messages = nil
}

type delivery struct {
	message jetstream.Msg
	nc      *nats.Conn
	ackWait time.Duration
	timeout time.Duration
}

// Entry implements the port.
func (d *delivery) Entry() (outbox.Entry, error) {
	return decode(d.message.Subject(), d.message.Headers(), d.message.Data())
}

// Ack waits for the broker's word. After a failure it may be called again.
func (d *delivery) Ack(ctx context.Context) error {
	ctx, done := whileConnected(ctx, d.nc, d.timeout)
	defer done()
	return classify(ctx, d.message.DoubleAck(ctx))
}

// Retry implements the port. If the message to the broker gets lost, the event comes again after the acknowledgement
// wait.
func (d *delivery) Retry(ctx context.Context, after time.Duration) error {
	if err := ctx.Err(); err != nil {
		return classify(ctx, err)
	}
	return classify(ctx, d.message.NakWithDelay(after))
}

// Extend implements the port.
func (d *delivery) Extend(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return classify(ctx, err)
	}
	return classify(ctx, d.message.InProgress())
}

// ExtendEvery leaves room for one extension that gets lost.
func (d *delivery) ExtendEvery() time.Duration { return d.ackWait / 3 }
