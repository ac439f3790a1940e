package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// InstanceHalts keeps the report of one instance in outbox_halts. It needs no lease.
type InstanceHalts struct {
	db       *bun.DB
	relay    string
	instance string
	within   time.Duration // the limit of each statement
}

var _ relay.InstanceHalts = (*InstanceHalts)(nil)

// NewInstanceHalts returns the reports of an instance of relay.
func NewInstanceHalts(db *bun.DB, relay, instance string) *InstanceHalts {
	return &InstanceHalts{db: db, relay: relay, instance: instance, within: answerWithin}
}

// recordHaltStatement keeps the time of a halt whose reason has not changed. It removes the reports of dead instances.
const recordHaltStatement = `
WITH expired AS (
	DELETE FROM outbox_halts
	WHERE relay = ?0 AND instance <> ?1 AND reported_at < clock_timestamp() - ?4 * interval '1 microsecond'
)
INSERT INTO outbox_halts AS h (relay, instance, reason, detail) VALUES (?0, ?1, ?2, ?3)
ON CONFLICT (relay, instance) DO UPDATE SET reason = excluded.reason, detail = excluded.detail, reported_at = clock_timestamp(),
	halted_at = CASE WHEN h.reason = excluded.reason THEN h.halted_at ELSE excluded.halted_at END`

// Record writes the report, or deletes it when halt is nil.
func (h *InstanceHalts) Record(ctx context.Context, halt *relay.Halt) error {
	ctx, cancel := context.WithTimeout(ctx, h.within)
	defer cancel()
	var err error
	if halt == nil {
		_, err = h.db.ExecContext(ctx, "DELETE FROM outbox_halts WHERE relay = ? AND instance = ?", h.relay, h.instance)
	} else {
		_, err = h.db.ExecContext(ctx, recordHaltStatement,
			h.relay, h.instance, string(halt.Reason), halt.Detail, relay.HaltReportExpires.Microseconds())
	}
	if err != nil {
		return classify(ctx, fmt.Errorf("report the halt of instance %s: %w", h.instance, err))
	}
	return nil
}

// haltedInstances reads the reports that have not expired.
func (a *RelayAdmin) haltedInstances(ctx context.Context) ([]operations.InstanceHalt, error) {
	rows, err := a.db.QueryContext(ctx, `SELECT instance, reason, detail, halted_at FROM outbox_halts
		WHERE relay = ? AND reported_at > clock_timestamp() - ? * interval '1 microsecond' ORDER BY instance`,
		a.relay, relay.HaltReportExpires.Microseconds())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var halted []operations.InstanceHalt
	for rows.Next() {
		var each operations.InstanceHalt
		if err := rows.Scan(&each.Instance, &each.Reason, &each.Detail, &each.Since); err != nil {
			return nil, err
		}
		halted = append(halted, each)
	}
	return halted, rows.Err()
}
