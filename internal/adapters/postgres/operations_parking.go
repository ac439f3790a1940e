package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var _ operations.ParkingAdmin = (*Parking)(nil)

// Redrive runs its statement twice. When the relay parks an event behind another one, it locks the earlier event. If the first statement
// waited for that lock, it did not see the new event.
func (p *Parking) Redrive(ctx context.Context, key *outbox.Key) (int, error) {
	ctx = allow(ctx, operatorTime)
	total := 0
	for range 2 {
		query := p.db.NewUpdate().Table("outbox_parked").
			Set("state = 'redrive'").Set("changed_at = clock_timestamp()").Where("state = 'parked'")
		if key != nil {
			query = query.Where("aggregate_type = ?", key.Type).Where("aggregate_id = ?", key.ID)
		}
		result, err := query.Exec(ctx)
		if err != nil {
			return 0, classify(ctx, fmt.Errorf("ask to redrive: %w", err))
		}
		changed, err := result.RowsAffected()
		if err != nil {
			return 0, classify(ctx, fmt.Errorf("ask to redrive: %w", err))
		}
		total += int(changed)
	}
	if total == 0 && key != nil {
		return 0, relay.ErrNotParked.With("no event of %s is parked", *key)
	}
	return total, nil
}

// Discard also discards an event that waits to be redriven, if the event's row in the log is gone.
func (p *Parking) Discard(ctx context.Context, position outbox.Position) error {
	var given int64
	err := p.db.QueryRowContext(ctx, `UPDATE outbox_parked SET state = 'discarded', changed_at = clock_timestamp()
		WHERE position = ? AND (state = 'parked' OR state = 'redrive'
			AND NOT EXISTS (SELECT FROM outbox AS o WHERE o.position = outbox_parked.position))
		RETURNING position`, int64(position)).Scan(&given)
	if err == nil {
		return nil
	}
	var state string
	if errors.Is(err, sql.ErrNoRows) {
		err = p.db.QueryRowContext(ctx, "SELECT state FROM outbox_parked WHERE position = ?", int64(position)).Scan(&state)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return relay.ErrNotParked.With("the event at position %d is not in the parking lot", position)
	case err != nil:
		return classify(ctx, fmt.Errorf("discard the event at position %d: %w", position, err))
	}
	return relay.ErrNotParked.With("the event at position %d cannot be discarded: its state is %s, not %s", position, state, relay.Parked)
}

// parkedRow is a row of the parking lot that is parked or waits to be redriven.
type parkedRow struct {
	Position      int64
	EventID       string
	AggregateType string
	AggregateID   string
	EventType     string
	Reason        string
	State         string
	ParkedAt      time.Time
	ChangedAt     time.Time
}

var waitingStatement = `
SELECT o.position, o.event_id, ` + shortened("o.aggregate_type") + ` AS aggregate_type, ` + shortened("o.aggregate_id") + ` AS aggregate_id,
	` + shortened("o.event_type") + ` AS event_type, o.reason, o.state, o.parked_at, o.changed_at
FROM outbox_parked AS o WHERE o.state IN ('parked', 'redrive') ORDER BY o.position LIMIT ?`

// Waiting shortens texts that are too long for a message.
func (p *Parking) Waiting(ctx context.Context, limit int) ([]relay.ParkedEvent, error) {
	var rows []parkedRow
	err := p.db.NewRaw(waitingStatement, max(limit, 0)).Scan(ctx, &rows)
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("list the parked events: %w", err))
	}
	events := make([]relay.ParkedEvent, 0, len(rows))
	for _, row := range rows {
		events = append(events, relay.ParkedEvent{
			Progress:  outbox.Progress{Position: outbox.Position(row.Position), EventID: row.EventID},
			Key:       outbox.Key{Type: row.AggregateType, ID: row.AggregateID},
			Type:      row.EventType,
			Reason:    row.Reason,
			State:     relay.ParkedState(row.State),
			ParkedAt:  row.ParkedAt,
			ChangedAt: row.ChangedAt,
		})
	}
	return events, nil
}
