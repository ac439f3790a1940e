package postgres

import (
	"context"
	"net"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// IgnoreWriters switches off the wait for open transactions. The tests of the log must fail with this mutant.
func (l *Log) IgnoreWriters() {
	l.await = func(context.Context, outbox.Position) error { return nil }
}

// WarnAfter sets how long the log waits before it reports the wait.
func (l *Log) WarnAfter(wait time.Duration) { l.warnAfter = wait }

// SetStatementTimeout sets the time limit of a statement.
func (l *Log) SetStatementTimeout(bound time.Duration) { l.within = bound }

// SetStatementTimeout sets the time limit of a statement.
func (s *CursorStore) SetStatementTimeout(bound time.Duration) { s.within = bound }

// SetStatementTimeout sets the time limit of a statement of the relay.
func (p *Parking) SetStatementTimeout(bound time.Duration) { p.within = bound }

// SetStatementTimeout sets the time limit of the statement.
func (r *Retention) SetStatementTimeout(bound time.Duration) { r.within = bound }

// Classify exports classify.
var Classify = classify

// AbandonedAfter sets how long a transaction that has appended may be idle.
func (u *UnitOfWork) AbandonedAfter(idle time.Duration) { u.abandonedAfter = idle }

// DeleteStatement deletes expired keys.
const DeleteStatement = deleteStatement

// The statements that measure the relay.
const (
	MeasureStatement = measureStatement
	OldestStatement  = oldestStatement
)

// SetBeginTimeout sets how long Do waits for a transaction to begin.
func (u *UnitOfWork) SetBeginTimeout(wait time.Duration) { u.beginTimeout = wait }

// NewDialer returns the dialer for connections to the database.
var NewDialer = newDialer

// AckTimeout is how long the kernel waits for the acknowledgement of sent data.
const AckTimeout = ackTimeout

// AllowOperatorTime gives statements the longer time limit of operators' statements.
func AllowOperatorTime(ctx context.Context) context.Context { return allow(ctx, operatorTime) }

// The statements that notice a sequence that went back.
var (
	VerifyStatement     = verifyStatement
	DisorderStatement   = disorderStatement
	SaveCursorStatement = saveCursorStatement
)

// OpenBehindPooler opens a pool that uses only the settings that a pooler accepts.
func OpenBehindPooler(options Options) (*bun.DB, error) {
	db, sessions, err := open(options)
	if err == nil {
		sessions.pooled.Store(true)
	}
	return db, err
}

// ReadOptions exports readOptions.
var ReadOptions = readOptions

// These constants of session_pool.go say how long the pool relies on what it last saw of a server.
const (
	ReadOnlyFor = readOnlyFor
	StandbyFor  = standbyFor
)

// KeysOf returns the idempotency keys of a transaction.
func KeysOf(tx bun.Tx) orders.Keys { return &keys{tx: tx, abandonedAfter: abandonedAfter} }

// The statements with which a lane asks about letters.
const (
	TakeStatement     = takeStatement
	FindHeldStatement = findHeldStatement
)

// Hijack returns the socket of a driver's connection, which the driver does not use any more.
func Hijack(driverConn any) (net.Conn, error) {
	taken, err := driverConn.(*session).Conn.Conn().PgConn().Hijack() //nolint:forcetypeassert // a connection of this package
	if err != nil {
		return nil, err
	}
	return taken.Conn, nil
}
