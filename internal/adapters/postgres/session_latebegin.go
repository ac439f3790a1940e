package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type lateBeginKey struct{}

// withLateBegin returns a context whose transactions send BEGIN together with their first statement, which saves a round trip.
func withLateBegin(ctx context.Context) context.Context {
	return context.WithValue(ctx, lateBeginKey{}, true)
}

type lateAnswerKey struct{}

// judge returns the error for the caller of a statement that was sent later and failed. Nothing that a statement answers can be judged: it may
// be committed by then.
type judge func(error) error

// withLateAnswer returns a context for a statement whose caller does not wait for the answer. In a transaction with a late BEGIN, the statement
// is sent together with the next one, or with COMMIT, which saves a round trip. The caller gets no rows. If Postgres refuses the statement,
// the transaction cannot commit, and what judge returns is the error of that next statement, or of COMMIT.
func withLateAnswer(ctx context.Context, j judge) context.Context {
	return context.WithValue(ctx, lateAnswerKey{}, j)
}

// unsent is what a transaction has not sent yet.
type unsent struct {
	begin      string // BEGIN; empty: it was sent
	statements []lateStatement
}

type lateStatement struct {
	text  string
	judge judge
}

func (u unsent) empty() bool { return u.begin == "" && len(u.statements) == 0 }

// lateTransaction is a transaction whose BEGIN is sent with its first statement.
type lateTransaction struct {
	session *session
	ctx     context.Context // the context of BEGIN, because database/sql gives none for COMMIT
}

// beginLate begins a transaction at the isolation READ COMMITTED.
func (s *session) beginLate(ctx context.Context) driver.Tx {
	s.late, s.unsent = true, unsent{begin: "begin isolation level read committed"}
	return &lateTransaction{session: s, ctx: ctx}
}

// keep keeps a statement without arguments to send it later, if its caller does not wait for the answer.
func (s *session) keep(ctx context.Context, statement string, args []driver.NamedValue) bool {
	j, ok := ctx.Value(lateAnswerKey{}).(judge)
	if !ok || !s.late || len(args) > 0 {
		return false
	}
	s.unsent.statements = append(s.unsent.statements, lateStatement{statement, j})
	return true
}

// sendUnsent sends what has not been sent yet.
func (s *session) sendUnsent(ctx context.Context) error {
	if s.unsent.empty() {
		return nil
	}
	_, err := s.send(ctx, "")
	return err
}

// send sends what has not been sent yet, together with a statement without arguments, and returns the statement's result. Each statement of the
// text has its own snapshot, as if it were sent alone. If one fails, Postgres leaves out those after it, and the transaction takes no further
// statement and cannot commit: what was not run would be missing in it.
func (s *session) send(ctx context.Context, statement string) (result *pgconn.Result, err error) {
	defer func() {
		if err != nil {
			s.failed = fmt.Errorf("the transaction failed before: %w", err)
		}
	}()
	sent := s.unsent
	s.unsent = unsent{}
	var text strings.Builder
	first := 0 // the index of the first late statement's result
	if sent.begin != "" {
		text.WriteString(sent.begin + ";")
		first = 1
	}
	for _, late := range sent.statements {
		text.WriteString(late.text + ";")
	}
	text.WriteString(statement)
	var results []*pgconn.Result
	results, err = s.Conn.Conn().PgConn().Exec(ctx, text.String()).ReadAll()
	succeeded := 0
	for succeeded < len(results) && results[succeeded].Err == nil {
		succeeded++
	}
	var reported *pgconn.PgError
	for i, late := range sent.statements {
		if first+i == succeeded && errors.As(err, &reported) {
			return nil, late.judge(err)
		}
	}
	if err != nil {
		return nil, err
	}
	return results[len(results)-1], nil
}

// Commit commits. If it fails, nobody knows whether the transaction took effect, unless the error is about a late statement.
func (t *lateTransaction) Commit() error {
	s := t.session
	if failed := s.failed; failed != nil {
		return errors.Join(failed, t.Rollback())
	}
	if s.unsent.begin != "" && len(s.unsent.statements) == 0 {
		s.endLate()
		return nil
	}
	conn := s.Conn.Conn()
	if s.unsent.begin == "" && conn.PgConn().TxStatus() == 'I' {
		s.endLate()
		return errEndedEarly
	}
	call := s.call(t.ctx, timeoutFor(t.ctx, s.pool.within))
	result, err := s.send(call.ctx, "commit")
	s.endLate()
	switch {
	case err != nil && conn.PgConn().TxStatus() != 'I':
		if _, failed := conn.Exec(call.ctx, "rollback"); failed != nil {
			_ = conn.Close(call.ctx) // the caller gets the first error
		}
	case err == nil && result.CommandTag.String() == "ROLLBACK":
		err = pgx.ErrTxCommitRollback
	}
	return call.end(err)
}

// Rollback rolls back, even if the transaction's context has ended. If Postgres does not answer, the connection is closed, which also ends
// the transaction.
func (t *lateTransaction) Rollback() error {
	s := t.session
	begun := s.unsent.begin == ""
	s.endLate()
	if !begun {
		return nil
	}
	call := s.call(context.WithoutCancel(t.ctx), min(s.pool.within, answerWithin))
	conn := s.Conn.Conn()
	_, err := conn.Exec(call.ctx, "rollback")
	if err != nil {
		_ = conn.Close(call.ctx) // the caller gets the error of the rollback
	}
	return call.end(err)
}

// endLate forgets the transaction, and what it has not sent.
func (s *session) endLate() { s.guarded, s.late, s.unsent, s.failed = false, false, unsent{}, nil }

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
