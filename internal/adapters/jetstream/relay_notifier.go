package jetstream

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// callPause is the least time between two calls to the other instances.
const callPause = 2 * time.Millisecond

// Notifier wakes the relays of all instances. It wakes its own relay in the process, and the others by a call, which is a plain NATS
// message. If notifications come during a call or directly after it, one more call is made for all of them.
type Notifier struct {
	nc      *nats.Conn
	subject string
	id      string // sent in each call, so that the notifier recognizes its own calls
	logger  *slog.Logger
	own     chan struct{}
	others  chan struct{}
}

var (
	_ relay.Notifier = (*Notifier)(nil)
	_ relay.Listener = (*Notifier)(nil)
)

// NewNotifier returns the notifier of a stream's relays. It wakes its own relay at once, and the others while Run runs.
func NewNotifier(nc *nats.Conn, stream string, logger *slog.Logger) *Notifier {
	return &Notifier{
		nc: nc, subject: wakeSubject(stream), id: rand.Text(), logger: logger,
		own: make(chan struct{}, 1), others: make(chan struct{}, 1),
	}
}

// Notify never blocks. Notifications that nobody has received yet count as one.
func (n *Notifier) Notify() {
	signal(n.own)
	signal(n.others)
}

// Notifications returns the channel of the notifications for this instance.
func (n *Notifier) Notifications() <-chan struct{} { return n.own }

// RemoteNotifier is for a process that runs no relay. It wakes the relays of other processes, and receives nothing.
type RemoteNotifier struct {
	nc      *nats.Conn
	subject string
	logger  *slog.Logger
}

var _ relay.Notifier = (*RemoteNotifier)(nil)

// NewRemoteNotifier returns a notifier of the stream's relays. It needs the right to publish on their subject, and no other.
func NewRemoteNotifier(nc *nats.Conn, stream string, logger *slog.Logger) *RemoteNotifier {
	return &RemoteNotifier{nc: nc, subject: wakeSubject(stream), logger: logger}
}

// Notify sends a message and waits for nothing.
func (c *RemoteNotifier) Notify() {
	if err := c.nc.Publish(c.subject, nil); err != nil {
		c.logger.Debug("could not wake the relays", "error", err)
	}
}

func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// Run carries notifications to and from the other instances until ctx ends, and then returns nil. It goes on after outages of the broker.
// When ctx ends, it still sends a notification that came before. It fails only if the connection was closed.
func (n *Notifier) Run(ctx context.Context) error {
	heard := make(chan *nats.Msg, 1024) // calls beyond this number carry no news
	listening, err := n.nc.ChanSubscribe(n.subject, heard)
	if err != nil {
		return classify(ctx, err)
	}
	defer func() { _ = listening.Unsubscribe() }()
	calls := n.others
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			select {
			case <-n.others:
				n.call()
			default:
			}
			return nil
		case call := <-heard:
			if string(call.Data) != n.id {
				signal(n.own)
			}
		case <-calls:
			n.call()
			calls = nil
			pause.Reset(callPause)
		case <-pause.C:
			calls = n.others
		}
	}
}

func (n *Notifier) call() {
	if err := n.nc.Publish(n.subject, []byte(n.id)); err != nil {
		n.logger.Debug("could not wake the other instances", "error", err)
	}
}
