package main

import (
	"log/slog"
	"maps"
	"slices"
	"strings"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/app/totals"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	orderports "github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

// handlerParts is what the handlers of subscribers work with.
type handlerParts struct {
	fx.In
	Decoder orderports.Decoder
	Totals  orderports.Totals
	Logger  *slog.Logger
}

// newSubscriberHandler is the handler of a subscriber that begins without a handler's name.
const newSubscriberHandler = totals.Name

// subscriptions make the handlers that this program has, by name, each for one subscriber.
var subscriptions = map[string]func(parts handlerParts, subscriber string) *subscribing.Handler{
	totals.Name: func(parts handlerParts, subscriber string) *subscribing.Handler {
		counted := totals.New(subscriber, parts.Decoder, parts.Totals, parts.Logger)
		return subscribing.NewHandler(totals.Name, counted.Functions(), counted.Applied)
	},
}

// handler returns the handler of a subscriber, by name.
func (p handlerParts) handler(subscriber, name string) (inbox.Handler, error) {
	if name == "" {
		name = newSubscriberHandler
	}
	create, found := subscriptions[name]
	if !found {
		return nil, fault.New(fault.NotFound, "no_such_handler", "this program has no handler %q for subscriber %s; it has %s",
			name, subscriber, strings.Join(slices.Sorted(maps.Keys(subscriptions)), ", "))
	}
	return create(p, subscriber), nil
}
