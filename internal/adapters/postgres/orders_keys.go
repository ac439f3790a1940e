package postgres

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// keys reads and claims idempotency keys in one transaction.
type keys struct {
	tx             bun.Tx
	abandonedAfter time.Duration
}

var _ orders.Keys = (*keys)(nil)

// claimStatement waits for any other transaction that is claiming the key. Then it inserts the claim if there is none, or takes the row
// over if the row has expired. It locks the row in each case, so that the row cannot be swept. It returns a row only if the claim is now
// ours. Other requests wait for the key, so the statement also sets how long this transaction may be idle.
const claimStatement = `
INSERT INTO request_keys AS held (scope, key, digest, order_id)
SELECT ?0, ?1, ?2::bytea, ?3::uuid FROM set_config('idle_in_transaction_session_timeout', ?4, true)
ON CONFLICT (scope, key) DO UPDATE
	SET digest = excluded.digest, order_id = excluded.order_id, created_at = clock_timestamp()
	WHERE held.created_at <= clock_timestamp() - ?5 * interval '1 microsecond'
RETURNING order_id`

// These statements return the digest as hexadecimal digits, whatever the session's bytea_output is.
const (
	keyStatement     = `SELECT encode(digest, 'hex'), order_id FROM request_keys WHERE scope = ?0 AND key = ?1`
	heldKeyStatement = keyStatement + ` AND created_at > clock_timestamp() - ?2 * interval '1 microsecond'`
)

// Claim sends a second statement if the key has another claim. Only a new snapshot shows what another transaction committed while the first
// statement waited.
func (k *keys) Claim(ctx context.Context, mine orders.KeyClaim) (orders.KeyClaim, error) {
	var id string
	err := k.tx.QueryRowContext(ctx, claimStatement, string(mine.Scope), string(mine.Key), mine.Digest[:], string(mine.Order),
		strconv.FormatInt(k.abandonedAfter.Milliseconds(), 10), orders.KeyLifetime.Microseconds()).Scan(&id)
	switch {
	case err == nil:
		return mine, nil
	case !errors.Is(err, sql.ErrNoRows):
		return orders.KeyClaim{}, classify(ctx, err)
	}
	return k.read(ctx, mine.Scope, mine.Key, keyStatement) // the row is locked, so it is there even if it expires now
}

// Find also returns a claim of this transaction.
func (k *keys) Find(ctx context.Context, scope orders.Scope, key orders.Key) (holds orders.KeyClaim, found bool, err error) {
	holds, err = k.read(ctx, scope, key, heldKeyStatement, orders.KeyLifetime.Microseconds())
	if errors.Is(err, sql.ErrNoRows) {
		return orders.KeyClaim{}, false, nil
	}
	return holds, err == nil, err
}

func (k *keys) read(
	ctx context.Context, scope orders.Scope, key orders.Key, statement string, more ...any,
) (orders.KeyClaim, error) {
	var digest, id string
	err := k.tx.QueryRowContext(ctx, statement, append([]any{string(scope), string(key)}, more...)...).Scan(&digest, &id)
	if err != nil {
		return orders.KeyClaim{}, classify(ctx, err)
	}
	holds := orders.KeyClaim{Scope: scope, Key: key, Order: order.ID(id)}
	if n, err := hex.Decode(holds.Digest[:], []byte(digest)); err != nil || n != len(holds.Digest) {
		return orders.KeyClaim{}, fmt.Errorf("request_keys has an invalid digest for the key %q: %q", key, digest)
	}
	return holds, nil
}

// ExpiredKeys deletes claims that have expired.
type ExpiredKeys struct{ db *bun.DB }

var _ orders.ExpiredKeys = (*ExpiredKeys)(nil)

// NewExpiredKeys returns an ExpiredKeys for the tables in db.
func NewExpiredKeys(db *bun.DB) *ExpiredKeys { return &ExpiredKeys{db: db} }

// deleteStatement reads only the rows that it deletes. now() is constant within a statement, so the index can find the rows; with
// clock_timestamp() it could not. The arrays make Postgres choose the rows only once, whatever the plan is. Programs of earlier versions
// kept their keys in another table, which only this statement sweeps.
const deleteStatement = `
WITH present AS (
	DELETE FROM request_keys WHERE ctid = ANY (ARRAY (
		SELECT ctid FROM request_keys WHERE created_at <= now() - ?0 * interval '1 microsecond'
		ORDER BY created_at LIMIT ?1 FOR UPDATE SKIP LOCKED))
	RETURNING 1
), earlier AS (
	DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY (
		SELECT ctid FROM idempotency_keys WHERE created_at <= now() - ?0 * interval '1 microsecond'
		ORDER BY created_at LIMIT ?1 - (SELECT count(*) FROM present) FOR UPDATE SKIP LOCKED))
	RETURNING 1
)
SELECT (SELECT count(*) FROM present) + (SELECT count(*) FROM earlier)`

// Delete deletes expired keys from both tables.
func (e *ExpiredKeys) Delete(ctx context.Context, most int) (deleted int, err error) {
	err = e.db.QueryRowContext(ctx, deleteStatement, orders.KeyLifetime.Microseconds(), most).Scan(&deleted)
	return deleted, classify(ctx, err)
}
