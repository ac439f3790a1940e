package operating

import (
	"context"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// Lags returns how far each subscriber of a stream is behind, whether it runs or not: those with checkpoints in the database, and those of
// former versions of the program, whose progress the broker keeps. If a subscriber is of both kinds, its checkpoints count.
func Lags(ctx context.Context, progress operations.ProgressReader, stream operations.StreamLags) ([]operations.Lag, error) {
	known, err := progress.Progress(ctx)
	if err != nil {
		return nil, err
	}
	lags, err := stream.Behind(ctx, known)
	if err != nil {
		return nil, err
	}
	former, err := stream.Lags(ctx)
	if err != nil {
		return nil, err
	}
	for _, lag := range former {
		if !slices.ContainsFunc(known, func(p operations.SubscriberProgress) bool { return p.Subscriber == lag.Subscriber }) {
			lags = append(lags, lag)
		}
	}
	return lags, nil
}
