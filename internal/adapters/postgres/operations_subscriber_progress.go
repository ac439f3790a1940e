package postgres

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.ProgressReader = (*RelayAdmin)(nil)

// Progress runs one statement.
func (a *RelayAdmin) Progress(ctx context.Context) (progress []operations.SubscriberProgress, err error) {
	rows, err := a.db.QueryContext(ctx, `SELECT DISTINCT ON (subscriber COLLATE "C") subscriber, stream, sequence, lanes
		FROM subscriber_lanes ORDER BY subscriber COLLATE "C", sequence, lane`)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var subscriber operations.SubscriberProgress
		var sequence int64
		if err := rows.Scan(&subscriber.Subscriber, &subscriber.Stream, &sequence, &subscriber.Lanes); err != nil {
			return nil, classify(ctx, err)
		}
		subscriber.Sequence = uint64(sequence)
		progress = append(progress, subscriber)
	}
	return progress, classify(ctx, rows.Err())
}
