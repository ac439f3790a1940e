package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrBusy reports that no connection became free in time, so that nothing was done.
var ErrBusy = fault.New(fault.Unavailable, "database_busy",
	"all connections to the database were in use for too long; nothing was done")

// errWaited is ErrBusy as a context reports it: a deadline has passed.
var errWaited = ErrBusy.Wrap(context.DeadlineExceeded)

// poolWait is the context of a statement. While the statement waits for a free connection it ends in time, with ErrBusy, and
// once there is a connection it is the caller's context and nothing more. database/sql bounds the wait by nothing but the
// context, and a deadline there would bound the statement, its rows or its transaction as well.
type poolWait struct {
	context.Context // the caller's

	within  time.Duration
	waiting atomic.Pointer[bounded] // nil: there is a connection, or there is nothing to wait for any more
}

// bounded is a child of the caller's context.
type bounded struct {
	context.Context
	cancel context.CancelFunc
}

type (
	poolWaitKey      struct{}
	poolWaitLimitKey struct{}
)

// limitPoolWait returns a context whose statements wait for a free connection for no longer than most.
func limitPoolWait(ctx context.Context, most time.Duration) context.Context {
	return context.WithValue(ctx, poolWaitLimitKey{}, most)
}

// begin starts the wait.
func (w *poolWait) begin() {
	ctx, cancel := context.WithTimeoutCause(w.Context, w.within, errWaited)
	w.waiting.Store(&bounded{Context: ctx, cancel: cancel})
}

// end ends the wait, and reports whether it was under way.
func (w *poolWait) end() bool {
	waiting := w.waiting.Swap(nil)
	if waiting != nil {
		waiting.cancel()
	}
	return waiting != nil
}

// current is the context that counts now.
func (w *poolWait) current() context.Context {
	if waiting := w.waiting.Load(); waiting != nil {
		return waiting
	}
	return w.Context
}

// Done is closed when the wait has taken too long, or the caller's context has ended.
func (w *poolWait) Done() <-chan struct{} { return w.current().Done() }

// Err is ErrBusy when the wait has taken too long. database/sql returns it as it is.
func (w *poolWait) Err() error {
	ctx := w.current()
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrBusy) {
		return cause
	}
	return err
}

// Value finds w, and what the context that counts now holds.
func (w *poolWait) Value(key any) any {
	if key == (poolWaitKey{}) {
		return w
	}
	return w.current().Value(key)
}

// endPoolWait ends the wait of ctx, because there is a connection now. It returns nil if no wait of ctx is under way.
func endPoolWait(ctx context.Context) *poolWait {
	if w, ok := ctx.Value(poolWaitKey{}).(*poolWait); ok && w.end() {
		return w
	}
	return nil
}

// poolWaits bounds the waits of every statement that goes through bun.
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

// AfterQuery ends a wait that was in vain, or for a statement that needed no connection, such as COMMIT.
func (p poolWaits) AfterQuery(ctx context.Context, _ *bun.QueryEvent) { endPoolWait(ctx) }
