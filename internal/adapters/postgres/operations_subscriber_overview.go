package postgres

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// overviewsStatement jumps from name to name by the primary keys. For each subscriber it reads at most RateEvents of the newest rows of
// inbox, by the index inbox_applied, and counts the subscriber's letters.
var overviewsStatement = `
WITH RECURSIVE names AS (
	SELECT least((SELECT min(subscriber) FROM inbox), (SELECT min(subscriber) FROM dead_letters),
		(SELECT min(subscriber) FROM subscriber_lanes), (SELECT min(subscriber) FROM subscribers)) AS name
	UNION ALL
	SELECT least((SELECT min(subscriber) FROM inbox WHERE subscriber > name), (SELECT min(subscriber) FROM dead_letters WHERE subscriber > name),
		(SELECT min(subscriber) FROM subscriber_lanes WHERE subscriber > name), (SELECT min(subscriber) FROM subscribers WHERE subscriber > name))
	FROM names WHERE name IS NOT NULL
)
SELECT name, coalesce(s.handler, ''), s.paused_at IS NOT NULL,
	coalesce((extract(epoch FROM statement_timestamp() - s.paused_at) * 1000000)::bigint, 0), s.forgotten_at, coalesce(s.filled, 0), coalesce(s.missed, 0),
	ARRAY (SELECT event_type FROM subscriber_types WHERE subscriber = name ORDER BY event_type COLLATE "C"),
	ARRAY (SELECT instance FROM subscriber_copies WHERE subscriber = name
		AND seen_at > statement_timestamp() - ` + strconv.FormatInt(inbox.CopyTimeout.Milliseconds(), 10) + ` * interval '1 millisecond' ORDER BY instance COLLATE "C"),
	(SELECT count(*) FROM dead_letters WHERE subscriber = name AND state = 'dead' AND ` + listed + `),
	(SELECT count(*) FROM dead_letters WHERE subscriber = name AND state IN ('waiting', 'retrying') AND ` + listed + `),
	(SELECT max(applied_at) FROM inbox WHERE subscriber = name AND applied_at IS NOT NULL),
	recent.events, (extract(epoch FROM statement_timestamp() - recent.since) * 1000000)::bigint
FROM names LEFT JOIN subscribers AS s ON s.subscriber = name, LATERAL (
	SELECT count(*) AS events, min(applied_at) AS since FROM (
		SELECT applied_at FROM inbox WHERE subscriber = name AND applied_at > statement_timestamp() - ` +
	strconv.FormatInt(inbox.RateWindow.Milliseconds(), 10) + ` * interval '1 millisecond'
		ORDER BY applied_at DESC LIMIT ` + strconv.Itoa(inbox.RateEvents) + `) AS newest
) AS recent
WHERE name IS NOT NULL`

// allLanesStatement reads a row for each lane.
const allLanesStatement = `
SELECT subscriber, lane, lanes, stream, sequence, stored_ns, coalesce(progress, 0), revision,
	(extract(epoch FROM statement_timestamp() - moved_at) * 1000000)::bigint
FROM subscriber_lanes ORDER BY subscriber, lane`

// Overviews runs two statements. For a subscriber that begins or ends between the two, the lanes may not fit the rest.
func (o *Operator) Overviews(ctx context.Context) ([]inbox.Overview, error) {
	overviews, err := o.overviews(ctx)
	if err != nil {
		return nil, err
	}
	lanes, err := o.allLanes(ctx)
	if err != nil {
		return nil, err
	}
	for n, overview := range overviews {
		overviews[n].Lanes = lanes[overview.Subscriber]
	}
	slices.SortFunc(overviews, func(a, b inbox.Overview) int { return strings.Compare(a.Subscriber, b.Subscriber) })
	return overviews, nil
}

func (o *Operator) overviews(ctx context.Context) (overviews []inbox.Overview, err error) {
	rows, err := o.db.QueryContext(ctx, overviewsStatement)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var seen inbox.Overview
		var forgotten, applied sql.NullTime
		var paused, events int64
		var since sql.NullInt64
		if err := rows.Scan(&seen.Subscriber, &seen.Handler, &seen.Paused, &paused, &forgotten, &seen.FilledEvents, &seen.MissedMessages, pgdialect.Array(&seen.Types),
			pgdialect.Array(&seen.Copies), &seen.Dead, &seen.Waiting, &applied, &events, &since); err != nil {
			return nil, classify(ctx, err)
		}
		seen.PausedFor, seen.Forgotten, seen.Applied = sinceMicroseconds(paused), forgotten.Time, applied.Time
		if over := inbox.RateWindow; events > 0 {
			if events == inbox.RateEvents {
				over = max(sinceMicroseconds(since.Int64), time.Millisecond)
			}
			seen.Rate = float64(events) / over.Seconds()
		}
		overviews = append(overviews, seen)
	}
	return overviews, classify(ctx, rows.Err())
}

func (o *Operator) allLanes(ctx context.Context) (map[string][]inbox.Checkpoint, error) {
	rows, err := o.db.QueryContext(ctx, allLanesStatement)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	lanes := make(map[string][]inbox.Checkpoint)
	for rows.Next() {
		var subscriber string
		var lane inbox.Checkpoint
		var sequence, storedAt, progress, idle int64
		if err := rows.Scan(&subscriber, &lane.Lane, &lane.Lanes, &lane.Stream, &sequence, &storedAt, &progress, &lane.Revision, &idle); err != nil {
			return nil, classify(ctx, err)
		}
		lane.StreamPosition, lane.Idle = newStreamPosition(sequence, storedAt, progress), sinceMicroseconds(idle)
		lanes[subscriber] = append(lanes[subscriber], lane)
	}
	return lanes, classify(ctx, rows.Err())
}
