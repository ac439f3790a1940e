package memory

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// effects is the transaction in which handlers work. It collects what they write.
type effects struct {
	*session
	subscriber string
	handler    inbox.Handler
	judge      inbox.FailurePolicy
	work       *work
}

// work is the Tx that handlers get. A handler may still hold it after the transaction has ended. The inbox's mutex guards it.
type work struct {
	session    *session
	subscriber string
	handler    string      // name of the handler
	collectors []collector // since the last flush, in the order of their first use
	ended      bool
	emitted    int // events that were written to the log
}

var _ inbox.Tx = (*work)(nil)

// collector holds what one port collects in a transaction.
type collector interface {
	// flush writes in a transaction what was collected for a subscriber. It is called once for each collector.
	flush(ctx context.Context, s *session, subscriber string) error
}

func newEffects(s *session, subscriber string, handler inbox.Handler, judge inbox.FailurePolicy) effects {
	return effects{
		session: s, subscriber: subscriber, handler: handler, judge: judge,
		work: &work{session: s, subscriber: subscriber, handler: handler.Name()},
	}
}

// Subscriber returns the name of the subscriber.
func (w *work) Subscriber() string { return w.subscriber }

// collect calls add with the collector of a port in a transaction. The first call, and the first call after each flush, get an empty
// collector.
func collect[T any, C interface {
	*T
	collector
}](tx inbox.Tx, add func(c C)) error {
	w, err := workOf(tx)
	if err != nil {
		return err
	}
	w.session.inbox.mu.Lock()
	defer w.session.inbox.mu.Unlock()
	if w.ended {
		return errTransactionOver
	}
	for _, other := range w.collectors {
		if c, found := other.(C); found {
			add(c)
			return nil
		}
	}
	c := C(new(T))
	w.collectors = append(w.collectors, c)
	add(c)
	return nil
}

func workOf(tx inbox.Tx) (*work, error) {
	w, ours := tx.(*work)
	if !ours {
		return nil, fmt.Errorf("the transaction is a %T, not one of package memory", tx)
	}
	return w, nil
}

// flush writes what was collected, and drops it. It writes emitted events last.
func (w *work) flush(ctx context.Context) error {
	collectors := w.drop()
	slices.SortStableFunc(collectors, func(a, b collector) int { return rankOf(a) - rankOf(b) })
	for _, c := range collectors {
		if err := c.flush(ctx, w.session, w.subscriber); err != nil {
			return err
		}
		if events, found := c.(*emitted); found {
			w.emitted += events.Len()
		}
	}
	return nil
}

func rankOf(c collector) int {
	if _, found := c.(*emitted); found {
		return 1
	}
	return 0
}

// drop removes all collectors, and returns them.
func (w *work) drop() []collector {
	w.session.inbox.mu.Lock()
	defer w.session.inbox.mu.Unlock()
	collectors := w.collectors
	w.collectors = nil
	return collectors
}

// close ends the transaction and its Tx.
func (e *effects) close() {
	e.inbox.mu.Lock()
	e.work.ended, e.work.collectors = true, nil
	e.inbox.mu.Unlock()
	e.session.close()
}

// flush writes what was collected.
func (e *effects) flush(ctx context.Context) error {
	if err := e.work.flush(ctx); err != nil {
		return &inbox.CollectedError{Err: err}
	}
	return nil
}

// handle calls the handler for one event. A panic becomes an error.
func (e *effects) handle(ctx context.Context, entry outbox.Entry) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", reason, debug.Stack())
		}
	}()
	e.inbox.pause(ctx, "handle")
	if err := e.handler.Handle(ctx, e.work, entry); err != nil {
		return err
	}
	e.change(func() { e.inbox.effects = append(e.inbox.effects, effect{e.subscriber, entry}) })
	return ctx.Err()
}

// apply handles the event at an index of the batch, without a savepoint. If the event fails, the transaction fails.
func (e *effects) apply(ctx context.Context, index int, entry outbox.Entry) error {
	if err := e.handle(ctx, entry); err != nil {
		return &inbox.EventError{Index: index, Err: err}
	}
	return nil
}

// attempt handles an event within a savepoint. If the event fails, attempt returns its letter after the failure.
func (e *effects) attempt(ctx context.Context, before letter) (failed *letter, err error) {
	if err := e.flush(ctx); err != nil {
		return nil, err
	}
	savepoint, writers, emitted := 0, 0, 0
	err = e.do(ctx, "savepoint", func() error {
		savepoint, writers, emitted = len(e.changes), len(e.writers), e.work.emitted
		return nil
	})
	if err != nil {
		return nil, err
	}
	failure := e.handle(ctx, before.Entry)
	if failure == nil {
		failure = e.work.flush(ctx)
	}
	if failure == nil {
		return nil, e.do(ctx, "release savepoint", func() error { return nil })
	}
	e.work.drop()
	err = e.do(ctx, "rollback to savepoint", func() error {
		e.changes, e.work.emitted = e.changes[:savepoint], emitted
		e.undo(writers)
		return nil
	})
	if err != nil {
		return nil, err
	}
	judged, err := e.judge(before.Entry, before.Attempts, failure)
	if err != nil {
		return nil, err
	}
	return before.failed(judged), nil
}
