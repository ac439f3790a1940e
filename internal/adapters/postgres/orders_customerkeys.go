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
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// customerKeys holds keys of customers in one transaction.
type customerKeys struct {
	tx             bun.Tx
	abandonedAfter time.Duration
}

var _ orders.CustomerKeys = (*customerKeys)(nil)

// holdStatement locks the customer's key in share mode, or inserts a new key. It returns nothing if another transaction has inserted a key
// meanwhile. Postgres makes the key, from 244 random bits, because the text of a statement can be seen in pg_stat_activity and in the log of
// Postgres. PersonalData.Erase waits for this transaction, so the statement also sets how long the transaction may be idle.
const holdStatement = `
WITH held AS MATERIALIZED (
	SELECT key_id, key FROM customer_keys WHERE customer_id = ?0 FOR SHARE
), made AS (
	INSERT INTO customer_keys (key_id, customer_id, key)
	SELECT gen_random_uuid(), ?0::uuid, sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) WHERE NOT EXISTS (SELECT FROM held)
	ON CONFLICT (customer_id) DO NOTHING RETURNING key_id, key
)
SELECT key_id, encode(key, 'hex') FROM (SELECT key_id, key FROM held UNION ALL SELECT key_id, key FROM made) AS found,
	set_config('idle_in_transaction_session_timeout', ?1, true)`

// holdAttempts is how often Hold sends its statement. Only a customer's first transactions need a second attempt, or transactions that begin
// while the customer is erased.
const holdAttempts = 5

// Hold sends one statement, unless another transaction makes the customer's key at the same time.
func (k *customerKeys) Hold(ctx context.Context, customer value.CustomerID) (outbox.SealKey, error) {
	idle := strconv.FormatInt(k.abandonedAfter.Milliseconds(), 10)
	for range holdAttempts {
		var id, secret string
		err := k.tx.QueryRowContext(ctx, holdStatement, string(customer), idle).Scan(&id, &secret)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			continue
		case err != nil:
			return outbox.SealKey{}, classify(ctx, err)
		}
		return sealKey(id, secret)
	}
	return outbox.SealKey{}, ErrUnavailable.With("other transactions make and erase the customer's key all the time")
}

// sealKey returns a key. secret has hexadecimal digits.
func sealKey(id, secret string) (outbox.SealKey, error) {
	key := outbox.SealKey{ID: id}
	if n, err := hex.Decode(key.Secret[:], []byte(secret)); err != nil || n != len(key.Secret) {
		return outbox.SealKey{}, fmt.Errorf("customer_keys has an invalid key %s", id)
	}
	return key, nil
}

// KeyRing reads the keys of customers.
type KeyRing struct{ db *bun.DB }

var _ orders.KeyRing = (*KeyRing)(nil)

// NewKeyRing returns a key ring of the customers in db.
func NewKeyRing(db *bun.DB) *KeyRing { return &KeyRing{db} }

const findKeysStatement = `
SELECT key_id, coalesce(encode(key, 'hex'), ''), erased_at IS NOT NULL FROM customer_keys WHERE key_id = ANY (?0::text[]::uuid[])`

// Find sends one statement. An id that is not a UUID is not found.
func (r *KeyRing) Find(ctx context.Context, ids []string) ([]orders.FoundKey, error) {
	asked := eventUUIDs(ids)
	if len(asked) == 0 {
		return nil, ctx.Err()
	}
	rows, err := r.db.QueryContext(ctx, findKeysStatement, pgdialect.Array(asked))
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("read the keys of customers: %w", err))
	}
	defer func() { _ = rows.Close() }()
	var found []orders.FoundKey
	for rows.Next() {
		var id, secret string
		key := orders.FoundKey{}
		if err := rows.Scan(&id, &secret, &key.Erased); err != nil {
			return nil, classify(ctx, err)
		}
		key.ID = id
		if !key.Erased {
			if key.SealKey, err = sealKey(id, secret); err != nil {
				return nil, err
			}
		}
		found = append(found, key)
	}
	return found, classify(ctx, rows.Err())
}
