package jetstream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Module provides the connection, the publisher, the finder, the liveness, the lags and the notifier. It closes the connection when the
// graph stops. It needs Options, and also PublisherOptions if anything but the connection is used. A graph that uses the notifier must run
// Notifier.Run. Make readers with NewReader, one for each subscriber.
var Module = fx.Module("jetstream",
	fx.Provide(
		func(lc fx.Lifecycle, o Options) (*nats.Conn, error) {
			nc, err := Connect(o)
			if err == nil {
				lc.Append(fx.StopHook(func(ctx context.Context) { disconnect(ctx, nc) }))
			}
			return nc, err
		},
		fx.Annotate(NewPublisher, fx.As(fx.Self()), fx.As(new(relay.Publisher))),
		fx.Annotate(NewFinder, fx.As(new(relay.Finder))),
		fx.Annotate(
			func(nc *nats.Conn, o PublisherOptions) *Liveness { return NewLiveness(nc, o.Stream, o.Logger) },
			fx.As(new(relay.Liveness)),
		),
		fx.Annotate(
			func(nc *nats.Conn, o PublisherOptions) *Notifier { return NewNotifier(nc, o.Stream, o.Logger) },
			fx.As(fx.Self()), fx.As(new(relay.Notifier)), fx.As(new(relay.Listener)),
		),
		func(nc *nats.Conn, o PublisherOptions) (*SubscriberLags, error) {
			return NewSubscriberLags(nc, o.Stream, o.Subjects)
		},
	),
)

// flushTimeout limits how long disconnect waits until the last writes have been sent.
const flushTimeout = time.Second

// disconnect closes nc after the last writes have been sent: a wake-up call or a retry. Everything else was acknowledged when its call
// returned.
func disconnect(ctx context.Context, nc *nats.Conn) {
	if nc.IsConnected() {
		flushing, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		_ = nc.FlushWithContext(flushing)
	}
	nc.Close()
}
