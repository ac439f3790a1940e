package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// firstParkedRow is a parked event without its payload and headers.
type firstParkedRow struct {
	Position      int64
	EventID       string
	AggregateType string
	AggregateID   string
	EventType     string
	Reason        string
	ParkedAt      time.Time
	ChangedAt     time.Time
	Behind        int
}

func (r firstParkedRow) undecided() operations.UndecidedEvent {
	return operations.UndecidedEvent{
		Position: outbox.Position(r.Position), EventID: r.EventID, Key: outbox.Key{Type: r.AggregateType, ID: r.AggregateID}, Type: r.EventType,
		Reason: r.Reason, First: r.ParkedAt, Last: r.ChangedAt, EventsBehind: r.Behind,
	}
}

var firstParkedColumns = `p.position, p.event_id, p.aggregate_type, p.aggregate_id, ` + shortened("p.event_type") + ` AS event_type,
	left(p.reason, ?0) AS reason, p.parked_at, p.changed_at`

// eachParkedStatement finds the first event of each aggregate with the index outbox_parked_parked_of alone.
var eachParkedStatement = `
SELECT ` + firstParkedColumns + `, first.behind
FROM (SELECT min(position) AS position, count(*) - 1 AS behind FROM outbox_parked WHERE state = 'parked' GROUP BY aggregate_type, aggregate_id) AS first
JOIN outbox_parked AS p ON p.position = first.position`

// EachUndecided runs one statement, and reads its rows one by one.
func (p *Parking) EachUndecided(ctx context.Context, visit func(operations.UndecidedEvent) bool) error {
	ctx = allow(ctx, operatorTime)
	fails := func(err error) error {
		if err == nil {
			return nil
		}
		return classify(ctx, fmt.Errorf("read the first parked events: %w", err))
	}
	rows, err := p.db.QueryContext(ctx, eachParkedStatement, fault.LongestReason)
	if err != nil {
		return fails(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r firstParkedRow
		err := rows.Scan(&r.Position, &r.EventID, &r.AggregateType, &r.AggregateID, &r.EventType, &r.Reason, &r.ParkedAt, &r.ChangedAt, &r.Behind)
		if err != nil {
			return fails(err)
		}
		if !visit(r.undecided()) {
			return nil
		}
	}
	return fails(rows.Err())
}

// firstParkedStatement jumps from aggregate to aggregate by the index outbox_parked_parked_of, however many events each aggregate has.
var firstParkedStatement = `
WITH RECURSIVE first AS (
	(SELECT aggregate_type, aggregate_id, position, 1 AS number FROM outbox_parked
	WHERE state = 'parked' AND (aggregate_type, aggregate_id) > (?2, ?3)
	ORDER BY aggregate_type, aggregate_id, position LIMIT 1)
	UNION ALL
	SELECT next.*, first.number + 1 FROM first, LATERAL (
		SELECT aggregate_type, aggregate_id, position FROM outbox_parked
		WHERE state = 'parked' AND (aggregate_type, aggregate_id) > (first.aggregate_type, first.aggregate_id)
		ORDER BY aggregate_type, aggregate_id, position LIMIT 1) AS next
	WHERE first.number < ?1
)
SELECT ` + firstParkedColumns + ` FROM first JOIN outbox_parked AS p USING (position) ORDER BY first.number LIMIT ?1`

// Undecided runs one statement.
func (p *Parking) Undecided(ctx context.Context, after outbox.Key, limit int) ([]operations.UndecidedEvent, error) {
	ctx = allow(ctx, operatorTime)
	var rows []firstParkedRow
	err := p.db.NewRaw(firstParkedStatement, fault.LongestReason, max(limit, 0), after.Type, after.ID).Scan(ctx, &rows)
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("list the first parked events: %w", err))
	}
	found := make([]operations.UndecidedEvent, 0, len(rows))
	for _, row := range rows {
		found = append(found, row.undecided())
	}
	return found, nil
}

var lockParkedStatement = `SELECT ` + firstParkedColumns + ` FROM outbox_parked AS p
	WHERE p.position = ANY (?1::bigint[]) AND p.state = 'parked' ORDER BY p.position FOR UPDATE`

// lockParked locks the events that are parked and belong to the choice, and returns their positions in order.
func lockParked(ctx context.Context, tx bun.Tx, asked []outbox.Position, choice operations.Choice) (chosen []int64, err error) {
	numbers := make([]int64, len(asked))
	for i, position := range asked {
		numbers[i] = int64(position)
	}
	var rows []firstParkedRow
	err = tx.NewRaw(lockParkedStatement, fault.LongestReason, pgdialect.Array(numbers)).Scan(ctx, &rows)
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("lock parked events: %w", err))
	}
	included := choice.Matcher()
	for _, row := range rows {
		if included(row.undecided()) {
			chosen = append(chosen, row.Position)
		}
	}
	return chosen, nil
}

// redriveChosenStatement marks parked events to be redriven, and with each event the parked events behind it in its aggregate.
const redriveChosenStatement = `
UPDATE outbox_parked AS p SET state = 'redrive', changed_at = clock_timestamp()
FROM (SELECT aggregate_type, aggregate_id, min(position) AS position FROM outbox_parked WHERE position = ANY (?0::bigint[])
	GROUP BY aggregate_type, aggregate_id) AS chosen
WHERE p.aggregate_type = chosen.aggregate_type AND p.aggregate_id = chosen.aggregate_id AND p.position >= chosen.position
	AND p.state = 'parked'`

// RedriveChosen locks the events first, and looks for the events behind them afterwards. The relay locks the first parked event of the
// aggregate when it sets another event aside. If the relay locked first, RedriveChosen sees the new event. If RedriveChosen locked first,
// the relay sees that the aggregate is to be redriven, and marks the new event too.
func (p *Parking) RedriveChosen(ctx context.Context, positions []outbox.Position, choice operations.Choice) (chosen int, err error) {
	return p.change(ctx, positions, choice, redriveChosenStatement)
}

// DiscardChosen is like RedriveChosen, but the events behind the chosen ones stay parked.
func (p *Parking) DiscardChosen(ctx context.Context, positions []outbox.Position, choice operations.Choice) (chosen int, err error) {
	return p.change(ctx, positions, choice,
		"UPDATE outbox_parked SET state = 'discarded', changed_at = clock_timestamp() WHERE position = ANY (?0::bigint[])")
}

// change locks the events of a choice, and changes them with statement.
func (p *Parking) change(
	ctx context.Context, positions []outbox.Position, choice operations.Choice, statement string,
) (chosen int, err error) {
	err = transact(ctx, p.db, func(ctx context.Context, tx bun.Tx) error {
		locked, err := lockParked(ctx, tx, positions, choice)
		if err != nil || len(locked) == 0 {
			return err
		}
		chosen = len(locked)
		if _, err := tx.ExecContext(ctx, statement, pgdialect.Array(locked)); err != nil {
			return classify(ctx, fmt.Errorf("change %d parked events: %w", chosen, err))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return chosen, nil
}
