package outboxie

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Tx is the transaction in which an event takes effect, at the isolation READ COMMITTED. The engine ends it: COMMIT, ROLLBACK and the like are
// refused. Savepoints are allowed. A function uses its Tx in one goroutine at a time, returns the errors of its statements, closes its rows, and
// does not keep the Tx: after the transaction each method fails with sql.ErrTxDone. A statement for each event is a round trip for each event; a
// Batch is faster. Statements are not prepared: PrepareContext fails.
type Tx struct {
	tx      inbox.Tx
	cause   outbox.Entry
	handler *Handler // nil: the write of a batch
	engine  *Engine
}

// Subscriber returns the id of the subscriber.
func (t *Tx) Subscriber() string { return t.tx.Subscriber() }

// ExecContext runs a statement with parameters $1, $2 …
func (t *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tx, err := postgres.Transaction(t.tx)
	if err != nil {
		return nil, err
	}
	return tx.Tx.ExecContext(ctx, query, args...)
}

// QueryContext runs a query with parameters $1, $2 …
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	tx, err := postgres.Transaction(t.tx)
	if err != nil {
		return nil, err
	}
	return tx.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext runs a query with parameters $1, $2 … that returns at most one row.
func (t *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	tx, err := postgres.Transaction(t.tx)
	if err != nil { // only database/sql can make a row that has an error
		ended, cancel := context.WithCancelCause(ctx)
		cancel(err)
		ctx = ended
	}
	return tx.Tx.QueryRowContext(ctx, query, args...)
}

// PrepareContext fails: PgBouncer in transaction mode cannot keep prepared statements. It is there for tools such as sqlc, which ask for it.
func (t *Tx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	tx, err := postgres.Transaction(t.tx)
	if err != nil {
		return nil, err
	}
	return tx.PrepareContext(ctx, query)
}

// Bun returns the transaction for bun.
func (t *Tx) Bun() (bun.IDB, error) {
	tx, err := postgres.Transaction(t.tx)
	if err != nil {
		return nil, err
	}
	return struct{ bun.IDB }{tx}, nil // without Commit and Rollback
}

// Append appends events that follow from the event that is being handled. They commit together with its effect, and the relay publishes them.
// Leave their IDs empty: the engine derives them from the handled event, so that an event that is handled again does not append again.
//
// The versions of an aggregate have to rise in the order of the commits. So either all events of the aggregate follow from events of one other
// aggregate, or the handler locks a row of its own before it chooses the version.
func (t *Tx) Append(ctx context.Context, events ...Event) error {
	if t.handler == nil {
		return errInBatch
	}
	converted := make([]outbox.Message, len(events))
	for i, event := range events {
		converted[i] = message(event)
	}
	return t.engine.emitter.Emit(ctx, t.tx, t.cause, converted...)
}

var errInBatch = errors.New("the write of a batch cannot append events: append them in the function that handles the event")

// Batch collects items of the events that share a transaction, and writes them together. So the events have one round trip in all, and each
// transaction takes its locks in the same order.
type Batch[T any] struct {
	handler *Handler
	number  int
	write   func(ctx context.Context, tx *Tx, items []T) error
}

// NewBatch returns a batch for the functions of h, and of no other handler. write is called once in a transaction, at its end, with what was
// added, in the order of the events. If a handler has several batches, they are written in the order of the calls of NewBatch. write should
// lock rows in an order that does not depend on the order of the items: for example, sort by key. Its tx cannot append events.
func NewBatch[T any](h *Handler, write func(ctx context.Context, tx *Tx, items []T) error) *Batch[T] {
	if write == nil {
		h.refuse("a batch has no function")
	}
	h.batches++
	return &Batch[T]{handler: h, number: h.batches - 1, write: write}
}

// Add adds an item. If the write fails, each event is tried again alone. Add fails in a function of another handler.
func (b *Batch[T]) Add(tx *Tx, item T) error {
	if tx.handler != nil && tx.handler != b.handler {
		return fmt.Errorf("the batch belongs to the handler %s: the functions of the handler %s need a batch of their own", b.handler.name, tx.handler.name)
	}
	return postgres.Defer(tx.tx, b.number, item, func(ctx context.Context, _ bun.Tx, items []any) error {
		typed := make([]T, len(items))
		for i, each := range items {
			typed[i], _ = each.(T) // Add takes only T
		}
		return b.write(ctx, &Tx{tx: tx.tx}, typed)
	})
}
