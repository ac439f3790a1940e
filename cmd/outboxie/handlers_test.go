package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx/fxtest"

	"github.com/assylzhan-a/outboxie/internal/app/notifying"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/contract"
)

// TestHandlers checks which handler each name gives, which handlers call other systems, and the errors for a wrong name and for a missing
// setting.
func TestHandlers(t *testing.T) {
	c := config.Config{Subscriber: config.Subscriber{Webhook: "http://shop.example.com/hunter2"}}
	endpoint, err := newEndpoint(fxtest.NewLifecycle(t), c)
	require.NoError(t, err)
	parts := handlerParts{Endpoint: endpoint}
	for name, external := range map[string]bool{"totals": false, "fulfillment": false, "webhook": true} {
		handler, err := parts.handler("shop", name)
		require.NoError(t, err)
		require.Equal(t, name, handler.Name())
		require.Equal(t, external, handler.External(), name)
		require.NotEmpty(t, handler.Types())
	}
	first, err := parts.handler("shop", "")
	require.NoError(t, err)
	require.Equal(t, "totals", first.Name())

	_, err = parts.handler("shop", "webhooks")
	require.ErrorContains(t, err, `no handler "webhooks" for subscriber shop; it has fulfillment, totals, webhook`)
	_, err = handlerParts{}.handler("shop", "webhook")
	require.ErrorContains(t, err, "WEBHOOK_URL")
}

// TestHandlersWantEveryVersion checks that a handler which wants a version of a type wants all published versions of it. Otherwise its
// subscriber passes over events of the other versions, and no log line or metric shows it. The webhook gets every published type.
func TestHandlersWantEveryVersion(t *testing.T) {
	published, err := contract.EventNames()
	require.NoError(t, err)
	endpoint, err := newEndpoint(fxtest.NewLifecycle(t), config.Config{Subscriber: config.Subscriber{Webhook: "http://shop.example.com/"}})
	require.NoError(t, err)
	for name := range handlerConstructors {
		handler, err := handlerParts{Endpoint: endpoint}.handler("shop", name)
		require.NoError(t, err)
		require.Empty(t, passedOver(handler.Types(), published), name)
		if name == notifying.Name {
			require.Subset(t, handler.Types(), published)
		}
	}
	require.Equal(t, []string{"a.b.v1", "a.b.v3"}, passedOver([]string{"a.b.v2", "c.v1"}, []string{"a.b.v1", "a.b.v2", "a.b.v3", "a.v1", "c.v1"}))
}

// passedOver returns the published versions of wanted events that are not wanted.
func passedOver(wanted, published []string) (missing []string) {
	name := func(kind string) string { return kind[:strings.LastIndex(kind, ".v")] }
	for _, kind := range published {
		same := func(other string) bool { return name(other) == name(kind) }
		if slices.ContainsFunc(wanted, same) && !slices.Contains(wanted, kind) {
			missing = append(missing, kind)
		}
	}
	return missing
}

// TestProcessHasOneEndpoint checks that all webhook handlers of a process use one endpoint: they call on the same connection, which is closed
// when the process stops.
func TestProcessHasOneEndpoint(t *testing.T) {
	connections := make(chan http.ConnState, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew || state == http.StateClosed {
			connections <- state
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := config.Config{Subscriber: config.Subscriber{ID: "shop", Webhook: config.Secret(server.URL)}}
	life := fxtest.NewLifecycle(t)
	endpoint, err := newEndpoint(life, c)
	require.NoError(t, err)
	life.RequireStart()
	create := newHandlers(handlerParts{Endpoint: endpoint}, c)
	for _, entry := range relaytest.NewEntries(0, 3) {
		handler, err := create(notifying.Name)
		require.NoError(t, err)
		entry.Type = handler.Types()[0]
		require.NoError(t, handler.Handle(t.Context(), nil, entry))
	}
	require.Equal(t, http.StateNew, <-connections)
	require.Empty(t, connections, "more than one connection")
	life.RequireStop()
	select {
	case state := <-connections:
		require.Equal(t, http.StateClosed, state)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the connection stays open")
	}
}
