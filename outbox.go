package outboxie

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
)

// Outbox appends events. It is safe for concurrent use; a transaction is for one goroutine at a time.
type Outbox struct {
	notifier *jetstream.RemoteNotifier
	traces   trace.TracerProvider
}

// SQLTx is a transaction of database/sql or of bun: a *sql.Tx or a bun.Tx.
type SQLTx interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	Commit() error
}

// Append records events in tx, in this order: all of them, or none. If it fails, roll back. It fails with ErrVersionTaken, with
// ErrInvalidEvent, with ErrIsolation, or with the error of the database. Each event carries the trace context of ctx. Append without events
// does nothing.
//
// Append last, and commit soon: the relay waits for every transaction that has appended. Postgres ends a transaction that is idle for ten
// seconds after it has appended. The transaction must be READ COMMITTED, the default. Call Wake after the commit.
func (o *Outbox) Append(ctx context.Context, tx SQLTx, events ...Event) error {
	return o.append(ctx, events, func(ctx context.Context, statement string, args ...any) ([]postgres.Inserted, error) {
		if b, isBun := tx.(bun.Tx); isBun {
			return inserted(b.Tx.QueryContext(ctx, statement, args...)) // bun would take each ? of a payload for a parameter
		}
		return inserted(tx.QueryContext(ctx, statement, args...))
	})
}

// AppendPgx is Append for a transaction of pgx.
func (o *Outbox) AppendPgx(ctx context.Context, tx pgx.Tx, events ...Event) error {
	return o.append(ctx, events, func(ctx context.Context, statement string, args ...any) ([]postgres.Inserted, error) {
		rows, err := tx.Query(ctx, statement, args...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowToStructByPos[postgres.Inserted])
	})
}

func (o *Outbox) append(ctx context.Context, events []Event, query postgres.Query) error {
	converted, err := messages(events)
	if err != nil {
		return err
	}
	return telemetry.TraceAppender(o.traces, postgres.NewForeignAppender(query)).Append(ctx, converted...)
}

// Wake wakes the relay, in whichever process it runs. Call it after a commit. It waits for nothing. Without it, the relay finds the events when
// it looks at the outbox the next time.
func (o *Outbox) Wake() { o.notifier.Notify() }

func inserted(rows *sql.Rows, err error) ([]postgres.Inserted, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err reports what Close would
	var found []postgres.Inserted
	for rows.Next() {
		var row postgres.Inserted
		if err := rows.Scan(&row.Position, &row.Isolation, &row.Timeout); err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}
