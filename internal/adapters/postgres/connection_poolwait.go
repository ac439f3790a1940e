package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrBusy reports that no connection became free in time. Nothing was done.
var ErrBusy = fault.New(fault.Unavailable, "database_busy",
	"all connections to the database were in use for too long; nothing was done")

// errWaited is the ErrBusy that a context reports. It also wraps context.DeadlineExceeded, as callers expect of a context's error.
var errWaited = ErrBusy.Wrap(context.DeadlineExceeded)

// poolWait is the context of a statement. While the statement waits for a free connection, poolWait has a deadline of its own, and reports
// ErrBusy when the deadline passes. Once the statement has a connection, poolWait behaves like the caller's context. An ordinary deadline
// is not enough: database/sql bounds the wait only by the context, and that deadline would also bound the statement, its rows or its
// transaction.
type poolWait struct {
	context.Context // the caller's

	within  time.Duration
	waiting atomic.Pointer[boundedContext] // nil: the statement does not wait
}

// boundedContext is a child of the caller's context.
type boundedContext struct {
	context.Context
	cancel context.CancelFunc
}

type (
	poolWaitKey      struct{}
	poolWaitLimitKey struct{}
)

// limitPoolWait returns a context whose statements wait for a free connection for at most the duration most.
func limitPoolWait(ctx context.Context, most time.Duration) context.Context {
	return context.WithValue(ctx, poolWaitLimitKey{}, most)
}

// begin starts the wait.
func (w *poolWait) begin() {
	ctx, cancel := context.WithTimeoutCause(w.Context, w.within, errWaited)
	w.waiting.Store(&boundedContext{Context: ctx, cancel: cancel})
}

// end ends the wait, and reports whether it was under way.
func (w *poolWait) end() bool {
	waiting := w.waiting.Swap(nil)
	if waiting != nil {
		waiting.cancel()
	}
	return waiting != nil
}

// current returns the context that is in effect now.
func (w *poolWait) current() context.Context {
	if waiting := w.waiting.Load(); waiting != nil {
		return waiting
	}
	return w.Context
}

// Done is closed when the wait has taken too long, or the caller's context has ended.
func (w *poolWait) Done() <-chan struct{} { return w.current().Done() }

// Err returns ErrBusy when the wait has taken too long. database/sql returns this error unchanged.
func (w *poolWait) Err() error {
	ctx := w.current()
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrBusy) {
		return cause
	}
	return err
}

// Value returns w for poolWaitKey. For other keys it returns the value of the context that is in effect now.
func (w *poolWait) Value(key any) any {
	if key == (poolWaitKey{}) {
		return w
	}
	return w.current().Value(key)
}

// endPoolWait ends the wait of ctx, because the statement has a connection now. It returns nil if ctx does not wait.
func endPoolWait(ctx context.Context) *poolWait {
	if w, ok := ctx.Value(poolWaitKey{}).(*poolWait); ok && w.end() {
		return w
	}
	return nil
}

// poolWaits bounds the wait of every statement that goes through bun.
type poolWaits struct{ within time.Duration }

var _ bun.QueryHook = poolWaits{}

// BeforeQuery begins the wait.
func (p poolWaits) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context {
	w := &poolWait{Context: ctx, within: p.within}
	if most, ok := ctx.Value(poolWaitLimitKey{}).(time.Duration); ok {
		w.within = most
	}
	w.begin()
	return w
}

// AfterQuery ends the wait of a statement that got no connection, or that needed none, such as COMMIT.
func (p poolWaits) AfterQuery(ctx context.Context, _ *bun.QueryEvent) { endPoolWait(ctx) }
