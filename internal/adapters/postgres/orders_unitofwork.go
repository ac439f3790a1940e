package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// abandonedAfter is how long a transaction that has appended, or claimed a key, may be idle before Postgres ends it. The log's readers,
// and other requests with the same key, wait for such a transaction. If its process is frozen or its machine is gone, only Postgres can
// end it.
const abandonedAfter = 10 * time.Second

// beginTimeout is how long a transaction waits for a free connection. A request that cannot be served soon should fail: later requests
// wait behind it.
const beginTimeout = 2 * time.Second

// UnitOfWork runs Postgres transactions over keys, orders and outbox, at the isolation READ COMMITTED. Postgres ends a transaction that
// has claimed or appended and is then idle for ten seconds.
type UnitOfWork struct {
	db             *bun.DB
	abandonedAfter time.Duration
	beginTimeout   time.Duration
}

var _ orders.UnitOfWork = (*UnitOfWork)(nil)

// NewUnitOfWork returns a unit of work on db.
func NewUnitOfWork(db *bun.DB) *UnitOfWork {
	return &UnitOfWork{db: db, abandonedAfter: abandonedAfter, beginTimeout: beginTimeout}
}

// Do sends BEGIN and COMMIT, and what fn sends. If it cannot begin in time it returns ErrBusy.
func (u *UnitOfWork) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	return transact(limitPoolWait(ctx, u.beginTimeout), u.db, func(ctx context.Context, tx bun.Tx) error {
		return fn(ctx, orders.Tx{
			Keys:   &keys{tx: tx, abandonedAfter: u.abandonedAfter},
			Orders: &orderRepository{tx: tx},
			Outbox: &appender{tx: tx, abandonedAfter: u.abandonedAfter},
		})
	})
}

// transact runs fn in a transaction. It returns the error of fn unchanged, and classifies errors of BEGIN and COMMIT. If the connection
// breaks during COMMIT, nobody knows whether the transaction took effect: that is ErrUnavailable too.
//
// The isolation is set explicitly, whatever the database's default. Versions, keys and inbox rely on READ COMMITTED: a statement that
// waited for another writer's row sees what that writer committed.
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
