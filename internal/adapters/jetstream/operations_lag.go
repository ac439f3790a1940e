package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// SubscriberLags measures how far the subscribers of a stream are behind, whether they run or not.
type SubscriberLags struct {
	directReader
	js       jetstream.JetStream
	subjects string // of events
}

// NewSubscriberLags returns the lags of the subscribers of a stream, whose events have these subjects. It asks the broker nothing.
func NewSubscriberLags(nc *nats.Conn, stream, subjects string) (*SubscriberLags, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(defaultTimeout))
	if err != nil {
		return nil, err
	}
	return &SubscriberLags{directReader: newDirectReader(nc, stream), js: js, subjects: subjects}, nil
}

// LagOf returns how many events the stream holds after a sequence, and the age of the first of them, by the broker's clock and this
// machine's. It makes one request. It fails with a fault.Unavailable if the stream does not exist or does not allow direct gets.
func (c *SubscriberLags) LagOf(ctx context.Context, sequence uint64) (events int64, oldest time.Duration, err error) {
	ctx, done := whileConnected(ctx, c.nc, defaultTimeout)
	defer done()
	next, pending, err := c.read(ctx, getRequest{Sequence: sequence + 1, Count: 1, Filter: c.subjects})
	if err != nil || len(next) == 0 {
		return 0, 0, err
	}
	return int64(pending) + 1, max(0, time.Since(next[0].StoredAt)), nil //nolint:gosec // no stream holds so many
}

// Lags returns the lag of each subscriber with a durable consumer, which earlier versions of the program kept. It makes two requests, and
// one more for each subscriber that is behind. It leaves out other people's consumers.
func (c *SubscriberLags) Lags(ctx context.Context) ([]operations.Lag, error) {
	ctx, done := whileConnected(ctx, c.nc, defaultTimeout)
	defer done()
	stream, err := c.js.Stream(ctx, c.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(ctx, err)
	}
	var lags []operations.Lag
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		if info.Config.Durable == "" || info.Config.FilterSubject != c.subjects {
			continue
		}
		lag := operations.Lag{Subscriber: info.Config.Durable, Events: int64(info.NumPending) + int64(info.NumAckPending)}
		if lag.Events > 0 {
			if lag.Oldest, err = c.oldest(ctx, info); err != nil {
				return nil, classify(ctx, err)
			}
		}
		lags = append(lags, lag)
	}
	return lags, classify(ctx, consumers.Err())
}

// oldest returns how long the first event without an acknowledgement has been in the stream, by the broker's clock.
func (c *SubscriberLags) oldest(ctx context.Context, info *jetstream.ConsumerInfo) (time.Duration, error) {
	message, err := c.askLeader(ctx, info.AckFloor.Stream+1, c.subjects)
	if errorCode(err) == jetstream.JSErrCodeMessageNotFound { // the event was acknowledged and removed since
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return max(0, info.TimeStamp.Sub(message.StoredAt)), nil
}

var _ operations.StreamLags = (*SubscriberLags)(nil)

// LagsOf returns the lag of each subscriber in progress. It makes one request, and one more for each subscriber. If a subscriber's progress
// belongs to an earlier stream of this name, LagsOf counts all events of the present stream.
func (c *SubscriberLags) LagsOf(ctx context.Context, progress []operations.SubscriberProgress) ([]operations.Lag, error) {
	if len(progress) == 0 {
		return nil, nil
	}
	stream, err := c.js.Stream(ctx, c.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(ctx, err)
	}
	lags := make([]operations.Lag, 0, len(progress))
	for _, subscriber := range progress {
		sequence := subscriber.Sequence
		if subscriber.Stream != identity(stream.CachedInfo().Created) {
			sequence = 0
		}
		lag := operations.Lag{Subscriber: subscriber.Subscriber}
		if lag.Events, lag.Oldest, err = c.LagOf(ctx, sequence); err != nil {
			return nil, err
		}
		lags = append(lags, lag)
	}
	return lags, nil
}
