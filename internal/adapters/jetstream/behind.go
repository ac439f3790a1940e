package jetstream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.StreamLags = (*SubscriberLags)(nil)

// Behind returns the lag of each subscriber that stands at a place, in one request and one more for each place. A place in another
// stream, which was there before, is before the first event.
func (c *SubscriberLags) Behind(ctx context.Context, places []operations.SubscriberProgress) ([]operations.Lag, error) {
	if len(places) == 0 {
		return nil, nil
	}
	stream, err := c.js.Stream(ctx, c.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(ctx, err)
	}
	lags := make([]operations.Lag, 0, len(places))
	for _, place := range places {
		sequence := place.Sequence
		if place.Stream != identity(stream.CachedInfo().Created) {
			sequence = 0
		}
		lag := operations.Lag{Subscriber: place.Subscriber}
		if lag.Events, lag.Oldest, err = c.LagOf(ctx, sequence); err != nil {
			return nil, err
		}
		lags = append(lags, lag)
	}
	return lags, nil
}
