package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// TestHandlers checks which handler each name gives, which handlers call other systems, and the errors for a wrong name and for a missing
// setting.
func TestHandlers(t *testing.T) {
	parts := handlerParts{}
	parts.Config.Subscriber.Webhook = config.Secret("http://shop.example.com/hunter2")
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
