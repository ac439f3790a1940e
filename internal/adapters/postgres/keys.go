package postgres

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

// keys is the idempotency keys of one transaction.
type keys struct {
	tx             bun.Tx
	abandonedAfter time.Duration
}

var _ ordering.Keys = (*keys)(nil)

// claimStatement waits for whoever claims the key at the moment. It then inserts the claim if there is none, or takes over
// the row if it has expired, and locks it in any case, so that it cannot be swept away. It answers with a row only if the
// claim is ours. Because others wait for the key, it also says when the transaction counts as abandoned.
const claimStatement = `
INSERT INTO idempotency_keys AS held (key, fingerprint, order_id)
SELECT ?0, ?1, ?2::uuid FROM set_config('idle_in_transaction_session_timeout', ?3, true)
ON CONFLICT (key) DO UPDATE
	SET fingerprint = excluded.fingerprint, order_id = excluded.order_id, created_at = clock_timestamp()
	WHERE held.created_at <= clock_timestamp() - ?4 * interval '1 microsecond'
RETURNING order_id`

// Claim implements the port. A claim that holds already costs a second statement: only a new snapshot shows what was
// committed while the first one waited.
func (k *keys) Claim(ctx context.Context, mine ordering.Claim) (ordering.Claim, error) {
	var id string
	err := k.tx.QueryRowContext(ctx, claimStatement, string(mine.Key), mine.Fingerprint, string(mine.Order),
		strconv.FormatInt(k.abandonedAfter.Milliseconds(), 10), ordering.KeyLifetime.Microseconds()).Scan(&id)
	if err == nil {
		return mine, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return ordering.Claim{}, classify(ctx, err)
	}
	holds := ordering.Claim{Key: mine.Key}
	err = k.tx.QueryRowContext(ctx, "SELECT fingerprint, order_id FROM idempotency_keys WHERE key = ?", string(mine.Key)).
		Scan(&holds.Fingerprint, &id)
	if err != nil {
		return ordering.Claim{}, classify(ctx, err)
	}
	holds.Order = order.ID(id)
	return holds, nil
}

// ExpiredKeys is the claims that do not hold any more.
type ExpiredKeys struct{ db *bun.DB }

var _ ordering.ExpiredKeys = (*ExpiredKeys)(nil)

// NewExpiredKeys returns those of db.
func NewExpiredKeys(db *bun.DB) *ExpiredKeys { return &ExpiredKeys{db: db} }

// deleteStatement looks at nothing but what it deletes: now() stays the same during the statement, which lets the index find
// the rows (clock_timestamp() would not), and the array makes Postgres pick them once, whatever the plan.
const deleteStatement = `
DELETE FROM idempotency_keys WHERE key = ANY (ARRAY (
	SELECT key FROM idempotency_keys WHERE created_at <= now() - ?0 * interval '1 microsecond'
	ORDER BY created_at LIMIT ?1 FOR UPDATE SKIP LOCKED))`

// Delete implements the port.
func (e *ExpiredKeys) Delete(ctx context.Context, most int) (int, error) {
	result, err := e.db.ExecContext(ctx, deleteStatement, ordering.KeyLifetime.Microseconds(), most)
	if err != nil {
		return 0, classify(ctx, err)
	}
	deleted, err := result.RowsAffected()
	return int(deleted), classify(ctx, err)
}
