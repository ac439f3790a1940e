package fulfillment_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fulfillment"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// TestVersionsFollowTheOrder checks the events of a fulfillment for each course of an order. Their versions begin with 1 and have no gap.
func TestVersionsFollowTheOrder(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		pay, cancel bool
		want        []fulfillment.Status
	}{
		"placed":             {},
		"paid":               {pay: true, want: []fulfillment.Status{fulfillment.Requested}},
		"cancelled":          {cancel: true},
		"paid and cancelled": {pay: true, cancel: true, want: []fulfillment.Status{fulfillment.Requested, fulfillment.Withdrawn}},
	} {
		t.Run(name, func(t *testing.T) {
			placed, err := order.Place("o", "c", value.NewMoney(100, "USD"), at)
			require.NoError(t, err)
			var events []fulfillment.Event
			if c.pay {
				paid, err := placed.Pay("", at)
				require.NoError(t, err)
				events = append(events, fulfillment.Paid(fulfillment.Order{ID: "o", Customer: "c", Version: paid.Version, At: at}))
			}
			if c.cancel {
				cancelled, err := placed.Cancel("", at)
				require.NoError(t, err)
				if event, follows := fulfillment.Cancelled(fulfillment.Order{ID: "o", Customer: "c", Version: cancelled.Version, At: at}); follows {
					events = append(events, event)
				}
			}
			require.Len(t, events, len(c.want))
			for i, event := range events {
				require.Equal(t, fulfillment.Event{Status: c.want[i], Order: "o", Customer: "c", Version: int64(i) + 1, At: at}, event)
			}
		})
	}
}
