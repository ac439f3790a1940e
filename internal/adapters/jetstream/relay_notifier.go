package jetstream

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// quiet is how long a bell waits after one call to the other instances before it makes the next.
const callPause = 2 * time.Millisecond

// Notifier wakes the relays of all instances: its own in process, the others by a plain message. Rings that come while a
// call is under way or just went out are gathered into one more call.
type Notifier struct {
	nc      *nats.Conn
	subject string
	id      string // of the bell, in each call, so that the bell knows its own
	logger  *slog.Logger
	own     chan struct{}
	others  chan struct{}
}

var (
	_ relay.Notifier = (*Notifier)(nil)
	_ relay.Listener = (*Notifier)(nil)
)

// NewBell returns the bell of a stream's relays. It rings in process at once, and over the broker while Run runs.
func NewNotifier(nc *nats.Conn, stream string, logger *slog.Logger) *Notifier {
	return &Notifier{
		nc: nc, subject: wakeSubject(stream), id: rand.Text(), logger: logger,
		own: make(chan struct{}, 1), others: make(chan struct{}, 1),
	}
}

// Wake implements the port.
func (b *Notifier) Notify() {
	signal(b.own)
	signal(b.others)
}

// C implements the port.
func (b *Notifier) Notifications() <-chan struct{} { return b.own }

// Caller wakes the relays of other processes, from a process that runs none. It listens to nobody.
type RemoteNotifier struct {
	nc      *nats.Conn
	subject string
	logger  *slog.Logger
}

var _ relay.Notifier = (*RemoteNotifier)(nil)

// NewCaller returns a caller for the stream's relays. It needs the right to publish on the subject of their bell, and no other.
func NewRemoteNotifier(nc *nats.Conn, stream string, logger *slog.Logger) *RemoteNotifier {
	return &RemoteNotifier{nc: nc, subject: wakeSubject(stream), logger: logger}
}

// Wake sends a message without waiting for anything.
func (c *RemoteNotifier) Notify() {
	if err := c.nc.Publish(c.subject, nil); err != nil {
		c.logger.Debug("could not wake the relays", "error", err)
	}
}

func signal(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Run carries rings to and from the other instances until ctx ends, also over outages of the broker, and then returns
// nil; a ring that came before is still sent. It fails only when the connection was closed.
func (b *Notifier) Run(ctx context.Context) error {
	heard := make(chan *nats.Msg, 1024) // what is more than that after a pause says nothing new
	listening, err := b.nc.ChanSubscribe(b.subject, heard)
	if err != nil {
		return classify(ctx, err)
	}
	defer func() { _ = listening.Unsubscribe() }()
	calls := b.others
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			select {
			case <-b.others:
				b.call()
			default:
			}
			return nil
		case call := <-heard:
			if string(call.Data) != b.id {
				signal(b.own)
			}
		case <-calls:
			b.call()
			calls = nil
			pause.Reset(callPause)
		case <-pause.C:
			calls = b.others
		}
	}
}

func (b *Notifier) call() {
	if err := b.nc.Publish(b.subject, []byte(b.id)); err != nil {
		b.logger.Debug("could not wake the other instances", "error", err)
	}
}
