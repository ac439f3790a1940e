package operating

import (
	"context"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// Lags returns how far each subscriber of a stream is behind, whether the subscriber runs or not. Some subscribers have checkpoints in the
// database. Others are of former versions of the program, and the broker keeps their progress. If a subscriber has both, its checkpoints
// count.
func Lags(ctx context.Context, progress operations.ProgressReader, stream operations.StreamLags) ([]operations.Lag, error) {
	known, err := progress.Progress(ctx)
	if err != nil {
		return nil, err
	}
	lags, err := stream.LagsOf(ctx, known)
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
