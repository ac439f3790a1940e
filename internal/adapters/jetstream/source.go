package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// Of a subscriber that died, or a broker that was killed, the event under way comes again only after this, and those
	// behind it wait. Work that takes longer is extended.
	defaultAckWait = 5 * time.Second
	pullExpiry     = 30 * time.Second
	heartbeat      = 2 * time.Second // a request that hears nothing for two of these is given up
	farewell       = time.Second     // for giving back what was delivered but not taken
)

// pull asks for one event, and for heartbeats while there is none, so that a dead connection is noticed.
var pull = fmt.Appendf(nil, `{"batch":1,"expires":%d,"idle_heartbeat":%d}`, pullExpiry, heartbeat)

var errNoHeartbeat = ErrUnavailable.With("the broker fell silent")

var validSubscriber = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// SourceOptions says who subscribes to what.
type SourceOptions struct {
	Stream     string
	Subscriber string        // the durable consumer's name: letters, digits, - and _; one per effect, shared by its copies
	AckWait    time.Duration // an event that was not acknowledged or extended for so long comes again; 5 s by default
	Logger     *slog.Logger
}

// Source is a durable pull consumer with one event under way at a time: with more, new events would overtake those that
// come again. Each of several copies of a subscriber has its own Source; the broker keeps the order over all of them.
//
// It asks for one event with each Next, and not ahead: an event that waits in an idle copy would be kept from the others.
// Next is not called concurrently.
type Source struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	o     SourceOptions
	inbox *nats.Subscription // where events arrive; nil: the consumer has to be looked up first
	asked bool               // an event was asked for and has not come yet

	looked  time.Time                // when the consumer's settings were looked at last
	agreed  jetstream.ConsumerConfig // as it was then
	problem atomic.Pointer[string]
}

var _ inbox.Source = (*Source)(nil)

// NewSource returns the source of one subscriber. It asks the broker nothing; Next creates the consumer when it is
// missing, to begin with the first event of the stream.
func NewSource(nc *nats.Conn, o SourceOptions) (*Source, error) {
	if !validSubscriber.MatchString(o.Subscriber) {
		return nil, fault.New(fault.Invalid, "invalid_subscriber", "a subscriber id has 1 to 64 letters, digits, - and _, unlike %q", o.Subscriber)
	}
	if o.AckWait == 0 {
		o.AckWait = defaultAckWait
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(defaultTimeout))
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
	message, err := s.next(waiting)
	if err == nil {
		return &delivery{message: message, nc: s.nc, ackWait: s.o.AckWait}, nil
	}
	if ctx.Err() == nil { // else the request stands, and what it brings waits for the next call
		_ = s.inbox.Unsubscribe()
		s.inbox = nil
	}
	s.complain(err)
	return nil, classify(waiting, err)
}

func (s *Source) next(ctx context.Context) (*nats.Msg, error) {
	for {
		if err := s.look(ctx); err != nil {
			return nil, err
		}
		if !s.asked {
			if err := s.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+s.o.Stream+"."+s.o.Subscriber, s.inbox.Subject, pull); err != nil {
				return nil, err
			}
			s.asked = true
		}
		message, err := s.receive(ctx)
		if err != nil {
			return nil, err
		}
		status := message.Header.Get("Status")
		if status == "" || len(message.Data) > 0 {
			s.asked = false
			return message, nil
		}
		switch status {
		case "100": // a heartbeat
		case "404", "408": // nothing came before the request expired
			s.asked = false
		default: // the consumer or its leader is gone
			return nil, ErrUnavailable.With("consumer %s of stream %s does not deliver: %s %s",
				s.o.Subscriber, s.o.Stream, status, message.Header.Get("Description"))
		}
	}
}

// receive waits for the next sign of life.
func (s *Source) receive(ctx context.Context) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*heartbeat, errNoHeartbeat)
	defer cancel()
	message, err := s.inbox.NextMsgWithContext(ctx)
	if err != nil {
		return nil, classify(ctx, err)
	}
	return message, nil
}

func (s *Source) subscribe(ctx context.Context) error {
	if s.inbox != nil {
		return nil
	}
	ctx, done := whileConnected(ctx, s.nc, defaultTimeout)
	defer done()
	info, err := s.consumer(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return inbox.ErrNoStream.With("stream %s does not exist yet", s.o.Stream)
	}
	if err != nil {
		s.complain(err)
		return classify(ctx, err)
	}
	subscription, err := s.nc.SubscribeSync(s.nc.NewInbox())
	if err != nil {
		return classify(ctx, err)
	}
	s.inbox, s.asked = subscription, false
	s.see(info)
	s.o.Logger.Info("subscribed", "stream", s.o.Stream, "subscriber", s.o.Subscriber)
	return nil
}

// complain remembers an error that only a person can repair.
func (s *Source) complain(err error) {
	if errors.Is(err, inbox.ErrConsumerUnfit) {
		problem := err.Error()
		s.problem.Store(&problem)
	}
}

// Close gives back an event that was delivered but never taken, so that another copy gets it at once. It is called after
// the last Next has returned.
func (s *Source) Close() {
	if s.inbox == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	for err := s.inbox.Drain(); err == nil; {
		var message *nats.Msg
		if message, err = s.inbox.NextMsgWithContext(ctx); err == nil && message.Header.Get("Status") == "" {
			err = s.nc.Publish(message.Reply, []byte("-NAK"))
		}
	}
	s.inbox = nil
}

type delivery struct {
	message *nats.Msg
	nc      *nats.Conn
	ackWait time.Duration
}

// Entry implements the port.
func (d *delivery) Entry() (outbox.Entry, error) {
	return decode(d.message.Subject, d.message.Header, d.message.Data)
}

// Raw implements the port. The sequence is part of the reply subject, and 0 when somebody tampered with that.
func (d *delivery) Raw() (outbox.Message, uint64) {
	raw := outbox.Message{Subject: d.message.Subject, Payload: d.message.Data}
	for name, values := range d.message.Header {
		if raw.Headers == nil {
			raw.Headers = make(map[string]string)
		}
		raw.Headers[name] = strings.Join(values, "\n")
	}
	metadata, err := d.message.Metadata()
	if err != nil {
		return raw, 0
	}
	return raw, metadata.Sequence.Stream
}

// Attempt implements the port. The number is part of the reply subject, too.
func (d *delivery) Attempt() int {
	metadata, err := d.message.Metadata()
	if err != nil {
		return 0
	}
	return int(metadata.NumDelivered)
}

// Ack waits for the broker's word. After a failure it may be called again.
func (d *delivery) Ack(ctx context.Context) error {
	ctx, done := whileConnected(ctx, d.nc, defaultTimeout)
	defer done()
	_, err := d.nc.RequestWithContext(ctx, d.message.Reply, []byte("+ACK"))
	return classify(ctx, err)
}

// Retry implements the port. If the message to the broker gets lost, the event comes again after the acknowledgement
// wait.
func (d *delivery) Retry(ctx context.Context, after time.Duration) error {
	return d.tell(ctx, fmt.Appendf(nil, `-NAK {"delay": %d}`, max(after, 0).Nanoseconds()))
}

// Extend implements the port.
func (d *delivery) Extend(ctx context.Context) error { return d.tell(ctx, []byte("+WPI")) }

func (d *delivery) tell(ctx context.Context, what []byte) error {
	if err := ctx.Err(); err != nil {
		return classify(ctx, err)
	}
	return classify(ctx, d.nc.Publish(d.message.Reply, what))
}

// ExtendEvery leaves room for one extension that gets lost.
func (d *delivery) ExtendEvery() time.Duration { return d.ackWait / 3 }
