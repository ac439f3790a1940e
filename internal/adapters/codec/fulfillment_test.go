package codec_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fulfillment"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/test/contract"
)

// TestFulfillmentGolden checks the public contract byte for byte.
func TestFulfillmentGolden(t *testing.T) {
	for file, status := range goldenFulfillments {
		event := fulfillment.Event{
			Status: status, Order: orderID, Customer: customerID, Version: 2, At: time.Date(2026, 11, 24, 9, 0, 0, 0, time.FixedZone("CET", 3600)),
		}
		message, err := fixed().EncodeFulfillment(event)
		require.NoError(t, err)
		require.Equal(t, string(payloadOf(t, file)), string(message.Payload))
		require.NoError(t, contract.CheckEvent(message.Subject, message.Type, message.Payload))
		message.Payload = nil
		require.Equal(t, outbox.Message{
			Type: "outboxie.fulfillment." + string(status) + ".v1", Subject: "orders.fulfillment." + string(status),
			Key: outbox.Key{Type: "fulfillment", ID: orderID}, Version: 2,
		}, message)
	}
	_, err := fixed().EncodeFulfillment(fulfillment.Event{Status: "lost"})
	require.ErrorContains(t, err, "lost")
	_, err = fixed().EncodeFulfillment(fulfillment.Event{Status: fulfillment.Requested, At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.Error(t, err, "RFC 3339 has four digits for the year")
}
