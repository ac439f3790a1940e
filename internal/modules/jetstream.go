package modules

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// JetStream provides the connection, the publisher, the finder, the liveness, the lags and the notifier. It closes the connection when the
// graph stops. It needs Options, and also jetstream.PublisherOptions if anything but the connection is used. A graph that uses the notifier must run
// Notifier.Run. Make readers with NewReader, one for each subscriber.
var JetStream = fx.Module("jetstream",
	fx.Provide(
		func(lc fx.Lifecycle, o jetstream.Options) (*nats.Conn, error) {
			nc, err := jetstream.Connect(o)
			if err == nil {
				lc.Append(fx.StopHook(func(ctx context.Context) { jetstream.Disconnect(ctx, nc) }))
			}
			return nc, err
		},
		fx.Annotate(jetstream.NewPublisher, fx.As(fx.Self()), fx.As(new(relay.Publisher))),
		fx.Annotate(jetstream.NewFinder, fx.As(new(relay.Finder))),
		fx.Annotate(
			func(nc *nats.Conn, o jetstream.PublisherOptions) *jetstream.Liveness {
				return jetstream.NewLiveness(nc, o.Stream, o.Logger)
			},
			fx.As(new(relay.Liveness)),
		),
		fx.Annotate(
			func(nc *nats.Conn, o jetstream.PublisherOptions) *jetstream.Notifier {
				return jetstream.NewNotifier(nc, o.Stream, o.Logger)
			},
			fx.As(fx.Self()), fx.As(new(relay.Notifier)), fx.As(new(relay.Listener)),
		),
		func(nc *nats.Conn, o jetstream.PublisherOptions) (*jetstream.SubscriberLags, error) {
			return jetstream.NewSubscriberLags(nc, o.Stream, o.Subjects)
		},
	),
)
