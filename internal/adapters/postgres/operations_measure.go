package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// Measure sends up to three statements, and each reads only a few rows. ctx also bounds the wait for a connection of the pool.
func (a *RelayAdmin) Measure(ctx context.Context, known outbox.Position) (operations.RelayMetrics, error) {
	measures, position, err := a.measureRelay(ctx, known)
	if err == nil && measures.Backlog > 0 {
		measures.Oldest, err = a.oldestAge(ctx, position)
	}
	if err != nil {
		return operations.RelayMetrics{}, classify(ctx, fmt.Errorf("measure the relay %s: %w", a.relay, err))
	}
	writers, err := describeWriters(ctx, a.db)
	if err != nil {
		return operations.RelayMetrics{}, classify(ctx, err)
	}
	if len(writers) > 0 {
		measures.OldestTransaction = seconds(writers[0].age)
	}
	return measures, nil
}

const measureStatement = `
SELECT pg_is_in_recovery(),
	EXISTS (SELECT FROM leases WHERE name = ?0 AND expires_at > clock_timestamp()),
	coalesce((SELECT position FROM outbox_cursor WHERE relay = ?0), 0),
	coalesce((SELECT purged_to FROM outbox_cursor WHERE relay = ?0), 0),
	coalesce((SELECT max(position) FROM outbox), 0), parked.events, parked.aggregates
FROM (
	SELECT count(*) AS events, count(DISTINCT (aggregate_type, aggregate_id)) AS aggregates
	FROM (SELECT aggregate_type, aggregate_id FROM outbox_parked WHERE state IN ('parked', 'redrive') LIMIT ?1) AS waiting
) AS parked`

// measureRelay also returns the position up to which every event was published or parked.
func (a *RelayAdmin) measureRelay(
	ctx context.Context, known outbox.Position,
) (measures operations.RelayMetrics, position outbox.Position, err error) {
	var standby bool
	var saved, purgedTo, last outbox.Position
	err = a.db.QueryRowContext(ctx, measureStatement, a.relay, operations.MaxCountedParked).Scan(
		&standby, &measures.HasLeader, &saved, &purgedTo, &last, &measures.ParkedEvents, &measures.ParkedAggregates)
	if err == nil && standby {
		err = errStandby
	}
	position = max(saved, known)
	measures.Backlog, measures.Retained = int64(max(last-position, 0)), int64(max(last-purgedTo, 0))
	return measures, position, err
}

// oldestStatement looks only at the next thousand rows. Rows that the relay has not reached are not parked. So at least one of the thousand
// is not parked, unless the cursor is far behind the relay. The statement looks up the parking lot as readStatement does, for the same
// reason.
const oldestStatement = `
SELECT extract(epoch FROM clock_timestamp() - o.recorded_at)
FROM (SELECT position, recorded_at FROM outbox WHERE position > ? ORDER BY position LIMIT 1000) AS o
WHERE (SELECT true FROM outbox_parked AS p WHERE p.position = o.position) IS NULL AND ` + validTime + `
ORDER BY o.position LIMIT 1`

func (a *RelayAdmin) oldestAge(ctx context.Context, after outbox.Position) (time.Duration, error) {
	var age float64
	err := a.db.QueryRowContext(ctx, oldestStatement, int64(after)).Scan(&age)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seconds(age), err
}

// seconds returns a duration between 0 and the 292 years that a Duration can hold.
func seconds(s float64) time.Duration {
	if s >= time.Duration(math.MaxInt64).Seconds() {
		return math.MaxInt64
	}
	return max(0, time.Duration(s*float64(time.Second)))
}
