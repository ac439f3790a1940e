package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// abandonedAfter is how long a transaction may be idle after it has appended events or claimed a key. Then Postgres ends it. The log's
// readers, and other requests with the same key, wait for such a transaction. If its process is frozen or its machine is gone, only
// Postgres can end it.
const abandonedAfter = 10 * time.Second

// beginTimeout is how long a transaction waits for a free connection. A request that cannot be served soon should fail, because later
// requests wait behind it.
const beginTimeout = 2 * time.Second

// UnitOfWork runs transactions over keys, orders and the outbox, at the isolation READ COMMITTED. If a transaction has claimed a key or
// appended events and is then idle for ten seconds, Postgres ends it.
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

// Do sends BEGIN, the statements of fn, and COMMIT. BEGIN goes with the first statement. A new order and its event go with COMMIT if nothing
// follows them. So a new order takes one round trip, two with a key, and a change of an order three, four with a key. If Do gets no connection
// in time, it returns ErrBusy. A deferred constraint is checked by the COMMIT, so Do can fail with ErrNotUnique.
func (u *UnitOfWork) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	err := transact(withLateBegin(limitPoolWait(ctx, u.beginTimeout)), u.db, func(ctx context.Context, tx bun.Tx) error {
		return fn(ctx, orders.Tx{
			Keys:         &keys{tx: tx, abandonedAfter: u.abandonedAfter},
			CustomerKeys: &customerKeys{tx: tx, abandonedAfter: u.abandonedAfter},
			Orders:       &orderRepository{tx: tx},
			Outbox:       &appender{tx: tx, abandonedAfter: u.abandonedAfter, late: true},
		})
	})
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return notUnique(err)
}

// transact runs fn in a transaction. It returns the error of fn unchanged, and classifies errors of BEGIN and COMMIT. If the connection
// breaks during COMMIT, nobody knows whether the transaction took effect. That error is ErrUnavailable too.
//
// The isolation is set explicitly, whatever the database's default is. Versions, keys and inbox need READ COMMITTED: a statement that has
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
