package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// abandonedAfter is how long a transaction that has appended, or claimed a key, may lie idle before Postgres ends it. The
// log's readers, or others with the same key, wait for it, and a writer whose process is frozen, or whose machine is gone,
// cannot end it itself.
const abandonedAfter = 10 * time.Second

// patience is how long a transaction waits to begin. A request that cannot be served soon had better say so: others that come
// wait behind it.
const beginTimeout = 2 * time.Second

// UnitOfWork is a Postgres transaction over keys, orders and outbox, at the isolation READ COMMITTED. One that has claimed
// or appended and then lies idle for ten seconds is ended by Postgres.
type UnitOfWork struct {
	db             *bun.DB
	abandonedAfter time.Duration
	beginTimeout       time.Duration
}

var _ orders.UnitOfWork = (*UnitOfWork)(nil)

// NewUnitOfWork returns a unit of work on db.
func NewUnitOfWork(db *bun.DB) *UnitOfWork {
	return &UnitOfWork{db: db, abandonedAfter: abandonedAfter, beginTimeout: beginTimeout}
}

// Do implements the port. It sends BEGIN and COMMIT and nothing else besides what fn does. If it cannot begin in time the
// answer is ErrBusy.
func (u *UnitOfWork) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	return transact(limitPoolWait(ctx, u.beginTimeout), u.db, func(ctx context.Context, tx bun.Tx) error {
		return fn(ctx, orders.Tx{
			Keys:   &keys{tx: tx, abandonedAfter: u.abandonedAfter},
			Orders: &orderRepository{tx: tx},
			Outbox: &appender{tx: tx, abandonedAfter: u.abandonedAfter},
		})
	})
}

// transact runs fn in a transaction. What fn returns is returned as it is; what beginning and committing report is
// classified. When the connection breaks while it commits, nobody knows whether it did: that is ErrUnavailable too.
//
// The isolation is said aloud, whatever the database's default: waiting for a concurrent writer's row and then judging
// what it committed, which versions, keys and inbox rely on, is what READ COMMITTED does.
func transact(ctx context.Context, db *bun.DB, fn func(ctx context.Context, tx bun.Tx) error) error {
	step := "begin"
	var failed error
	err := db.RunInTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, func(ctx context.Context, tx bun.Tx) error {
		step = "commit"
		failed = fn(ctx, tx)
		return failed
	})
	if failed != nil || err == nil {
		return failed
	}
	return classify(ctx, fmt.Errorf("%s the transaction: %w", step, err))
}
