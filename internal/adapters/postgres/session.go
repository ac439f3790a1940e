package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// session is a connection with a time limit for each statement. If the context of a statement ends, or no answer comes in time, the session
// asks Postgres to cancel the statement, and closes the connection.
type session struct {
	*stdlib.Conn
	pool       *sessions
	generation int64     // the pool's generation before the connection was opened
	opened     time.Time // when the opening began
	taken      time.Time // when a user got the connection last
	late       bool      // in a transaction of withLateBegin
	unsent     unsent    // of that transaction
	failed     error     // why that transaction cannot go on; nil: it can
	guarded    bool      // in a transaction that no statement may end; see refuseEnd
	unprepared bool      // prepared statements were lost
	reading    *rows     // of the last query; they may be closed
}

// pingAfter is how long a connection may be idle before its next user pings it. It is less than the second after which stdlib pings, so
// every ping has a deadline.
const pingAfter = 900 * time.Millisecond

var (
	_ driver.ConnBeginTx     = (*session)(nil)
	_ driver.ExecerContext   = (*session)(nil)
	_ driver.QueryerContext  = (*session)(nil)
	_ driver.Pinger          = (*session)(nil)
	_ driver.SessionResetter = (*session)(nil)
	_ driver.Validator       = (*session)(nil)
)

// IsValid reports whether the connection may be used again.
func (s *session) IsValid() bool {
	return s.generation == s.pool.generation.Load() && !s.Conn.Conn().IsClosed()
}

// ResetSession prepares the connection for its next user. If the connection was idle for pingAfter, it asks Postgres for an answer first.
func (s *session) ResetSession(ctx context.Context) error {
	if !s.IsValid() {
		return driver.ErrBadConn
	}
	idle := time.Since(s.taken)
	s.taken = time.Now()
	if idle < pingAfter {
		return s.Conn.ResetSession(ctx)
	}
	call := s.call(ctx, min(s.pool.within, answerWithin))
	if err := call.end(s.Conn.ResetSession(call.ctx)); err != nil { //nolint:contextcheck // call.ctx comes from ctx
		return driver.ErrBadConn // database/sql would use the connection after any other error
	}
	return nil
}

// Ping asks Postgres for an answer.
func (s *session) Ping(ctx context.Context) error {
	call := s.call(ctx, min(s.pool.within, answerWithin))
	return call.end(s.Conn.Ping(call.ctx)) //nolint:contextcheck // call.ctx comes from ctx
}

// ExecContext runs a statement that returns no rows.
func (s *session) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if inspects, _ := ctx.Value(inspectKey{}).(bool); inspects {
		return driver.RowsAffected(0), s.inspect()
	}
	if err := s.refuseEnd(query); err != nil {
		return nil, err
	}
	if s.failed != nil {
		return nil, s.failed
	}
	if s.keep(ctx, query, args) {
		return driver.RowsAffected(0), nil
	}
	call := s.statement(ctx)
	if c := s.preparedIn(ctx); c != nil {
		result, err := s.runPrepared(call.ctx, c) //nolint:contextcheck // call.ctx comes from ctx
		if err != nil {
			return nil, call.end(err)
		}
		return driver.RowsAffected(result.CommandTag.RowsAffected()), call.end(nil)
	}
	if !s.unsent.empty() && len(args) == 0 {
		result, err := s.send(call.ctx, query) //nolint:contextcheck // call.ctx comes from ctx
		if err != nil {
			return nil, call.end(err)
		}
		return driver.RowsAffected(result.CommandTag.RowsAffected()), call.end(nil)
	}
	if err := s.sendUnsent(call.ctx); err != nil { //nolint:contextcheck // call.ctx comes from ctx
		return nil, call.end(err)
	}
	result, err := s.Conn.ExecContext(call.ctx, query, args) //nolint:contextcheck // call.ctx comes from ctx
	return result, call.end(err)
}

// QueryContext runs a statement. The statement's time ends when the rows are closed.
func (s *session) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.refuseEnd(query); err != nil {
		return nil, err
	}
	if s.failed != nil {
		return nil, s.failed
	}
	if s.keep(ctx, query, args) {
		return &readRows{result: &pgconn.Result{}}, nil
	}
	call := s.statement(ctx)
	if c := s.preparedIn(ctx); c != nil {
		result, err := s.runPrepared(call.ctx, c) //nolint:contextcheck // call.ctx comes from ctx
		if err != nil {
			return nil, call.end(err)
		}
		return &readRows{result: result}, call.end(nil)
	}
	if !s.unsent.empty() && len(args) == 0 {
		result, err := s.send(call.ctx, query) //nolint:contextcheck // call.ctx comes from ctx
		if err != nil {
			return nil, call.end(err)
		}
		return &readRows{result: result}, call.end(nil)
	}
	if err := s.sendUnsent(call.ctx); err != nil { //nolint:contextcheck // call.ctx comes from ctx
		return nil, call.end(err)
	}
	found, err := s.Conn.QueryContext(call.ctx, query, args) //nolint:contextcheck // call.ctx comes from ctx
	if err != nil {
		return nil, call.end(err)
	}
	standard, ok := found.(*stdlib.Rows)
	if !ok {
		return nil, call.end(errors.Join(fmt.Errorf("the driver's rows are %T, not pgx's", found), found.Close()))
	}
	s.reading = &rows{Rows: standard, call: call}
	return s.reading, nil
}

// runPgx calls do with the pgx connection, for one statement. The statement must end with do's context.
func (s *session) runPgx(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	call := s.statement(ctx)
	return call.end(do(call.ctx, s.Conn.Conn())) //nolint:contextcheck // call.ctx comes from ctx
}

var errPrepared = errors.New("statements are not prepared through database/sql: PgBouncer in transaction mode cannot keep them, " +
	"and they have no deadline")

// Prepare is refused.
func (s *session) Prepare(string) (driver.Stmt, error) { return nil, errPrepared }

// PrepareContext is refused.
func (s *session) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return nil, errPrepared
}

// call is a statement under way.
type call struct {
	ctx     context.Context // ends with the caller's context, or when the time is over
	cancel  context.CancelFunc
	caller  context.Context
	within  time.Duration
	session *session
	wait    *poolWait // the wait for the connection, which this call has ended; nil: there was none
}

// statement begins a statement that may take as long as its context allows.
func (s *session) statement(ctx context.Context) *call {
	wait := endPoolWait(ctx)
	c := s.call(ctx, timeoutFor(ctx, s.pool.within))
	c.wait = wait
	return c
}

func (s *session) call(ctx context.Context, within time.Duration) *call {
	bounded, cancel := context.WithTimeout(ctx, within)
	return &call{ctx: bounded, cancel: cancel, caller: ctx, within: within, session: s}
}

// end ends the call, and returns the error for the caller.
func (c *call) end(err error) error {
	err = c.judge(err)
	c.cancel()
	if c.wait != nil && errors.Is(err, driver.ErrBadConn) {
		c.wait.begin() // nothing was sent, so database/sql takes another connection
	}
	return err
}

// judge retires the pool's connections of this generation if err says that no answer came: a deadline of the caller or of the session
// passed, or the kernel gave the connection up. judge also retires them if the server takes no writes; see outdated. If the caller cancels,
// judge retires nothing, because the server may be healthy.
func (c *call) judge(err error) error {
	if err == nil {
		return nil
	}
	if c.session.outdated(err) {
		c.session.retire()
		return err
	}
	cause := context.Cause(c.ctx)
	timedOut := errors.Is(cause, context.DeadlineExceeded) || cause == nil && pgconn.Timeout(err)
	if !timedOut {
		return err
	}
	c.session.retire()
	if c.caller.Err() == nil && cause != nil && !errors.Is(err, errNoAnswer) {
		return fmt.Errorf("%w within %v: %w", errNoAnswer, c.within, err)
	}
	if cause != nil && !errors.Is(err, cause) {
		return errors.Join(cause, err)
	}
	return err
}

var errNoAnswer = errors.New("the database did not answer")

// rows are the rows of a statement. They embed pgx's rows, which describe the columns.
type rows struct {
	*stdlib.Rows
	call *call
}

// Next reads the next row.
func (r *rows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return r.call.judge(err)
}

// Close ends the statement.
func (r *rows) Close() error { return r.call.end(r.Rows.Close()) }
