package jetstream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Module provides the connection, which it closes on stop, and the publisher, the finder, the liveness, the lags and the notifier. It
// expects Options, and PublisherOptions if one of these is used. A graph that uses the notifier must run Notifier.Run. Make readers with
// NewReader, one for each subscriber.
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
			return NewSubscriberLags(nc, o.Stream)
		},
	),
)

// flushTimeout bounds the wait for what was written last.
const flushTimeout = time.Second

// disconnect closes nc after what was written last (a wake-up call, a retry) has left. Everything else was acknowledged
// when its call returned.
func disconnect(ctx context.Context, nc *nats.Conn) {
	if nc.IsConnected() {
		flushing, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		_ = nc.FlushWithContext(flushing)
	}
	nc.Close()
}
