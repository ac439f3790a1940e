package codec_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fulfilment"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/test/contract"
)

// TestFulfilmentGolden checks the public contract byte for byte.
func TestFulfilmentGolden(t *testing.T) {
	for status, want := range map[fulfilment.Status]string{fulfilment.Requested: "requested_at", fulfilment.Withdrawn: "withdrawn_at"} {
		event := fulfilment.Event{
			Status: status, Order: orderID, Customer: customerID, Version: 2, At: time.Date(2026, 11, 24, 9, 0, 0, 0, time.FixedZone("CET", 3600)),
		}
		message, err := fixed().EncodeFulfilment(event)
		require.NoError(t, err)
		require.Equal(t, `{"order_id":"`+orderID+`","customer_id":"`+customerID+`","status":"`+string(status)+`","version":2,"`+
			want+`":"2026-11-24T08:00:00Z"}`, string(message.Payload))
		require.NoError(t, contract.CheckEvent(message.Subject, message.Type, message.Payload))
		message.Payload = nil
		require.Equal(t, outbox.Message{
			Type: "outboxie.fulfilment." + string(status) + ".v1", Subject: "orders.fulfilment." + string(status),
			Key: outbox.Key{Type: "fulfilment", ID: orderID}, Version: 2,
		}, message)
	}
	_, err := fixed().EncodeFulfilment(fulfilment.Event{Status: "lost"})
	require.ErrorContains(t, err, "lost")
	_, err = fixed().EncodeFulfilment(fulfilment.Event{Status: fulfilment.Requested, At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.Error(t, err, "RFC 3339 has four digits for the year")
}
