package postgres

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.ProgressReader = (*RelayAdmin)(nil)

// Progress runs one statement.
func (a *RelayAdmin) Progress(ctx context.Context) (places []operations.SubscriberProgress, err error) {
	rows, err := a.db.QueryContext(ctx, `SELECT DISTINCT ON (subscriber COLLATE "C") subscriber, stream, sequence, lanes
		FROM subscriber_lanes ORDER BY subscriber COLLATE "C", sequence, lane`)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var place operations.SubscriberProgress
		var sequence int64
		if err := rows.Scan(&place.Subscriber, &place.Stream, &sequence, &place.Lanes); err != nil {
			return nil, classify(ctx, err)
		}
		place.Sequence = uint64(sequence)
		places = append(places, place)
	}
	return places, classify(ctx, rows.Err())
}
