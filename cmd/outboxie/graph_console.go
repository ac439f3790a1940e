package main

import (
	"net/url"
	"strings"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// servedOrders is the order service of a process that serves the API.
type servedOrders struct{ orders.Service }

func serveOrders(service orders.Service) servedOrders { return servedOrders{service} }

// pagesParts are what the console has beside the engine's pages.
type pagesParts struct {
	fx.In
	Orders servedOrders `optional:"true"`
}

// newPages returns the console. It has the pages of orders if the process serves orders.
func newPages(c config.Config, o engine.Operating, parts pagesParts) *console.Console {
	pages := o.Console()
	if c.Given(config.JaegerURL) {
		pages.Traces = traceAddress(string(c.Jaeger.URL))
	}
	if parts.Orders.Service != nil {
		pages.Orders = parts.Orders
	}
	return console.New(pages)
}

// traceAddress returns the address of Jaeger for links. It has no credentials and no query, because they may be secret.
func traceAddress(text string) string {
	address, err := url.Parse(text)
	if err != nil {
		return ""
	}
	address.User, address.RawQuery, address.Fragment = nil, "", ""
	return strings.TrimSuffix(address.String(), "/")
}
