package main

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// decorated has the ports that fx must wrap before it passes them to constructors.
type decorated struct {
	fx.In
	Service     orders.Service
	Work        orders.UnitOfWork
	Log         relay.Log
	Cursors     relay.CursorStore
	Publisher   relay.Publisher
	Elector     relay.Elector
	Retention   relay.Retention
	InboxWork   inbox.UnitOfWork
	Letters     inbox.DeadLetters
	Checkpoints inbox.Checkpoints
	Emitter     inbox.Emitter
}

// TestDecoratorsWrapTheirPorts checks that constructors get every decorated port and handler from packages telemetry and ordertrace.
func TestDecoratorsWrapTheirPorts(t *testing.T) {
	c := config.Default()
	c.Database.URL, c.NATS.URL = config.URL(infra.Database(t)), config.URL(infra.Broker(t))
	c.HTTP, c.Playground.DataDir = config.HTTP{Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"}, t.TempDir()
	c.Subscriber.ID = "graph"
	app := fx.New(serveGraph(c, slog.New(slog.DiscardHandler)), fx.Provide(newHandlers, newEndpoint), fx.Invoke(func(d decorated, named handlers) {
		handler, err := named("totals")
		require.NoError(t, err)
		for _, port := range []any{
			d.Service, d.Work, d.Log, d.Cursors, d.Publisher, d.Elector, d.Retention, d.InboxWork, d.Letters, d.Checkpoints, d.Emitter, handler,
		} {
			require.Regexp(t, `^\*?(telemetry|ordertrace)\.`, fmt.Sprintf("%T", port))
		}
	}))
	require.NoError(t, app.Start(t.Context()))
	require.NoError(t, app.Stop(t.Context()))
}
