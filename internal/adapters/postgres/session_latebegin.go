package postgres

import (
	"context"
	"database/sql/driver"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type lateBeginKey struct{}

// withLateBegin returns a context whose transactions send BEGIN together with their first statement, which saves a round trip.
func withLateBegin(ctx context.Context) context.Context {
	return context.WithValue(ctx, lateBeginKey{}, true)
}

// lateTransaction is a transaction whose BEGIN is sent with its first statement. It ends like any transaction.
type lateTransaction struct {
	session *session
	ctx     context.Context // the context of BEGIN, because database/sql gives none for COMMIT
}

// beginLate begins a transaction at the isolation READ COMMITTED.
func (s *session) beginLate(ctx context.Context) driver.Tx {
	s.lateBegin = "begin isolation level read committed"
	return &lateTransaction{session: s, ctx: ctx}
}

// sendLateBegin sends a BEGIN that has not been sent yet.
func (s *session) sendLateBegin(ctx context.Context) error {
	if s.lateBegin == "" {
		return nil
	}
	begin := s.lateBegin
	s.lateBegin = ""
	_, err := s.Conn.Conn().Exec(ctx, begin)
	return err
}

// sendLateBeginWith sends a BEGIN that has not been sent yet, together with a statement without arguments. Each statement of the text has
// its own snapshot, as if it were sent alone. If the statement fails, the transaction has begun and must be rolled back.
func (s *session) sendLateBeginWith(ctx context.Context, statement string) (driver.Rows, error) {
	text := s.lateBegin + ";" + statement
	s.lateBegin = ""
	results, err := s.Conn.Conn().PgConn().Exec(ctx, text).ReadAll()
	if err != nil {
		return nil, err
	}
	return &readRows{result: results[len(results)-1]}, nil
}

// Commit commits. If it fails, nobody knows whether the transaction took effect.
func (t *lateTransaction) Commit() error {
	t.session.guarded = false
	if t.unsent() {
		return nil
	}
	conn := t.session.Conn.Conn()
	if conn.PgConn().TxStatus() == 'I' {
		return errEndedEarly
	}
	call := t.session.call(t.ctx, timeoutFor(t.ctx, t.session.pool.within))
	tag, err := conn.Exec(call.ctx, "commit")
	switch {
	case err != nil && conn.PgConn().TxStatus() != 'I':
		_ = conn.Close(call.ctx)
	case err == nil && tag.String() == "ROLLBACK":
		err = pgx.ErrTxCommitRollback
	}
	return call.end(err)
}

// Rollback rolls back, even if the transaction's context has ended. If Postgres does not answer, the connection is closed, which also ends
// the transaction.
func (t *lateTransaction) Rollback() error {
	t.session.guarded = false
	if t.unsent() {
		return nil
	}
	call := t.session.call(context.WithoutCancel(t.ctx), min(t.session.pool.within, answerWithin))
	conn := t.session.Conn.Conn()
	_, err := conn.Exec(call.ctx, "rollback")
	if err != nil {
		_ = conn.Close(call.ctx) // the caller gets the error of the rollback
	}
	return call.end(err)
}

// unsent drops a BEGIN that has not been sent yet. It reports whether there was such a BEGIN. If so, there is no transaction to end.
func (t *lateTransaction) unsent() bool {
	waits := t.session.lateBegin != ""
	t.session.lateBegin = ""
	return waits
}

// readRows are rows that were read completely, as text.
type readRows struct {
	result *pgconn.Result
	next   int
}

// Columns returns the names of the columns.
func (r *readRows) Columns() []string {
	names := make([]string, len(r.result.FieldDescriptions))
	for i, field := range r.result.FieldDescriptions {
		names[i] = field.Name
	}
	return names
}

// Next returns the next row.
func (r *readRows) Next(dest []driver.Value) error {
	if r.next == len(r.result.Rows) {
		return io.EOF
	}
	for i, value := range r.result.Rows[r.next] {
		if dest[i] = nil; value != nil {
			dest[i] = string(value)
		}
	}
	r.next++
	return nil
}

// Close has nothing to do.
func (r *readRows) Close() error { return nil }
