package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// transaction is a transaction. Its BEGIN, COMMIT and ROLLBACK each have a time limit.
type transaction struct {
	tx      pgx.Tx
	session *session
	ctx     context.Context // the context of BEGIN, because database/sql gives none for COMMIT
}

// BeginTx begins a transaction.
func (s *session) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	level, err := isolation(options)
	if err != nil {
		return nil, err
	}
	if s.Conn.Conn().IsClosed() {
		return nil, driver.ErrBadConn
	}
	s.guarded, _ = ctx.Value(guardKey{}).(bool)
	if late, _ := ctx.Value(lateBeginKey{}).(bool); late && level.IsoLevel == pgx.ReadCommitted {
		return s.beginLate(ctx), s.statement(ctx).end(nil)
	}
	if changesSchema(ctx) {
		level.BeginQuery = beginMigration
	}
	call := s.statement(ctx)
	tx, err := s.Conn.Conn().BeginTx(call.ctx, level) //nolint:contextcheck // call.ctx comes from ctx
	if err != nil {
		return nil, call.end(err)
	}
	return &transaction{tx: tx, session: s, ctx: ctx}, call.end(nil)
}

func isolation(options driver.TxOptions) (pgx.TxOptions, error) {
	var found pgx.TxOptions
	switch level := sql.IsolationLevel(options.Isolation); level {
	case sql.LevelDefault:
	case sql.LevelReadCommitted:
		found.IsoLevel = pgx.ReadCommitted
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		found.IsoLevel = pgx.RepeatableRead
	case sql.LevelSerializable:
		found.IsoLevel = pgx.Serializable
	default:
		return found, fmt.Errorf("isolation %v is not supported", level)
	}
	if options.ReadOnly {
		found.AccessMode = pgx.ReadOnly
	}
	return found, nil
}

// Commit commits. If it fails, nobody knows whether the transaction took effect.
func (t *transaction) Commit() error {
	t.session.guarded = false
	if t.session.Conn.Conn().PgConn().TxStatus() == 'I' {
		return errEndedEarly
	}
	call := t.session.call(t.ctx, timeoutFor(t.ctx, t.session.pool.within))
	return call.end(t.tx.Commit(call.ctx))
}

// Rollback rolls back, even if the transaction's context has ended. If Postgres does not answer, the connection is closed, which also ends
// the transaction.
func (t *transaction) Rollback() error {
	t.session.guarded = false
	call := t.session.call(context.WithoutCancel(t.ctx), min(t.session.pool.within, answerWithin))
	return call.end(t.tx.Rollback(call.ctx))
}
