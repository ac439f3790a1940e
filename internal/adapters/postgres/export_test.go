package postgres

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// IgnoreWriters turns the wait for open writers off: the mutant that a test of the log must catch.
func (l *Log) IgnoreWriters() {
	l.await = func(context.Context, outbox.Position) error { return nil }
}

// WarnAfter changes after how long a wait is reported.
func (l *Log) WarnAfter(wait time.Duration) { l.warnAfter = wait }

// AnswerWithin changes how long a statement may take.
func (l *Log) AnswerWithin(bound time.Duration) { l.within = bound }

// AnswerWithin changes how long a statement may take.
func (s *CursorStore) AnswerWithin(bound time.Duration) { s.within = bound }

// AnswerWithin changes how long a statement of the relay's may take.
func (p *Parking) AnswerWithin(bound time.Duration) { p.within = bound }

// AnswerWithin changes how long the statement may take.
func (r *Retention) AnswerWithin(bound time.Duration) { r.within = bound }

// Classify makes classify testable.
var Classify = classify

// AbandonedAfter changes how long a transaction that has appended may lie idle.
func (u *UnitOfWork) AbandonedAfter(idle time.Duration) { u.abandonedAfter = idle }

// DeleteStatement is how expired keys are deleted.
const DeleteStatement = deleteStatement

// How the relay is measured.
const (
	MeasureStatement = measureStatement
	OldestStatement  = oldestStatement
)

// Patience is how long a transaction waits to begin.
func (u *UnitOfWork) Patience(wait time.Duration) { u.beginTimeout = wait }

// NewDialer returns what dials the database.
var NewDialer = newDialer

// Unacknowledged is for how long the kernel waits for what was sent to be acknowledged.
const Unacknowledged = unacknowledged

// AllowCounting lets statements take longer.
func AllowCounting(ctx context.Context) context.Context { return allow(ctx, counting) }

// How a log whose sequence went back is noticed.
var (
	VerifyStatement     = verifyStatement
	DisorderStatement   = disorderStatement
	SaveCursorStatement = saveCursorStatement
)

// OpenBehindPooler opens a pool that sets only what a pooler accepts.
func OpenBehindPooler(options Options) (*bun.DB, error) {
	db, sessions, err := open(options)
	if err == nil {
		sessions.pooled.Store(true)
	}
	return db, err
}

// ReadOptions makes readOptions testable.
var ReadOptions = readOptions

// How long what a session leads to counts as known.
const (
	ReadOnlyFor = readOnlyFor
	StandbyFor  = standbyFor
)

// KeysOf returns the idempotency keys of a transaction.
func KeysOf(tx bun.Tx) orders.Keys { return &keys{tx: tx, abandonedAfter: abandonedAfter} }

// What a lane asks about letters.
const (
	TakeStatement     = takeStatement
	FindHeldStatement = findHeldStatement
)
