package main

import (
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/webhook"
	"github.com/assylzhan-a/outboxie/internal/app/fulfilling"
	"github.com/assylzhan-a/outboxie/internal/app/notifying"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/app/totals"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// handlerParts has the values that the handlers of subscribers use.
type handlerParts struct {
	fx.In
	Decoder  orders.Decoder
	Totals   orders.Totals
	Encoder  orders.FulfillmentEncoder
	Emitter  inbox.Emitter
	Endpoint *webhook.Endpoint // nil without WEBHOOK_URL
	Logger   *slog.Logger
}

// newSubscriberHandler is the handler of a new subscriber without SUBSCRIBER_HANDLER.
const newSubscriberHandler = totals.Name

// handlerConstructors has the constructor of each handler of this program, by the handler's name. Register a new handler here.
var handlerConstructors = map[string]func(parts handlerParts, subscriber string) (*subscribing.Handler, error){
	totals.Name: func(parts handlerParts, subscriber string) (*subscribing.Handler, error) {
		counted := totals.New(subscriber, parts.Decoder, parts.Totals, parts.Logger)
		return subscribing.NewHandler(totals.Name, counted.Functions(), counted.Applied), nil
	},
	fulfilling.Name: func(parts handlerParts, subscriber string) (*subscribing.Handler, error) {
		fulfilled := fulfilling.New(subscriber, fulfilling.Ports{
			Decoder: parts.Decoder, Encoder: parts.Encoder, Emitter: parts.Emitter,
		}, parts.Logger)
		return subscribing.NewHandler(fulfilling.Name, fulfilled.Functions(), fulfilled.Applied), nil
	},
	notifying.Name: func(parts handlerParts, subscriber string) (*subscribing.Handler, error) {
		if parts.Endpoint == nil {
			return nil, fault.New(fault.Invalid, "no_webhook", "the handler %q of subscriber %s needs %s", notifying.Name, subscriber, config.WebhookURL)
		}
		called := notifying.New(subscriber, orders.EventTypes(), parts.Endpoint, parts.Logger)
		return subscribing.NewExternalHandler(notifying.Name, called.Functions(), called.Applied), nil
	},
}

// handler returns the handler of a subscriber, by name.
func (p handlerParts) handler(subscriber, name string) (inbox.Handler, error) {
	if name == "" {
		name = newSubscriberHandler
	}
	create, found := handlerConstructors[name]
	if !found {
		return nil, fault.New(fault.NotFound, "no_such_handler", "this program has no handler %q for subscriber %s; it has %s",
			name, subscriber, strings.Join(slices.Sorted(maps.Keys(handlerConstructors)), ", "))
	}
	handler, err := create(p, subscriber)
	if err != nil {
		return nil, err
	}
	return handler, nil
}

// handlers returns the handler of this process's subscriber, by name.
type handlers func(name string) (inbox.Handler, error)

func newHandlers(parts handlerParts, c config.Config) handlers {
	return func(name string) (inbox.Handler, error) { return parts.handler(c.Subscriber.ID, name) }
}

// newEndpoint returns the endpoint of WEBHOOK_URL, or nil if that is not set. All handlers that this process makes use the same endpoint, so
// they share its connections. The endpoint closes them when the process stops.
func newEndpoint(life fx.Lifecycle, c config.Config) (*webhook.Endpoint, error) {
	address := string(c.Subscriber.Webhook)
	if address == "" {
		return nil, nil
	}
	endpoint, err := webhook.New(webhook.Options{URL: address, Source: c.Stream.Source})
	if err != nil {
		return nil, err
	}
	life.Append(fx.StopHook(endpoint.Close))
	return endpoint, nil
}

// remoteNotifier returns a notifier that wakes the relays of other processes. Handlers that emit events need it.
func remoteNotifier(nc *nats.Conn, c config.Config, logger *slog.Logger) relay.Notifier {
	return jetstream.NewRemoteNotifier(nc, c.Stream.Name, logger)
}
