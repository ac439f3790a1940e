package postgres

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// effects collects what handlers do in one transaction, or within one savepoint, and writes it at once. Handlers of different
// aggregates then take the locks of shared rows in one order and for a short time. Statements for single events would lock in the order
// of the events, and two lanes would wait for each other.
type effects struct {
	totals totals
}

// newEffects returns effects of a subscriber that are written in tx.
func newEffects(tx bun.Tx, subscriber string) *effects {
	return &effects{totals: totals{tx: tx, subscriber: subscriber}}
}

// tx is what a handler gets.
func (e *effects) tx() inbox.Tx { return inbox.Tx{Totals: &e.totals} }

// flush writes what was collected since the last flush. Afterwards handlers may go on. Its errors are those of classifyEffect.
func (e *effects) flush(ctx context.Context) error {
	return classifyEffect(ctx, e.totals.flush(ctx))
}

// end drops what was collected and not written. From then on a handler that has kept its Tx gets an error.
func (e *effects) end() { e.totals.end() }

// handleSafely calls handler for entry. A panic becomes an error with the stack of the handler. Errors that do not come from Postgres
// stay as they are, unless ctx has ended: a handler's own timeout is no outage of the database.
func handleSafely(ctx context.Context, handler inbox.Handler, tx inbox.Tx, entry outbox.Entry) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", reason, debug.Stack())
		}
	}()
	err = handler.Handle(ctx, tx, entry)
	if err == nil || (ctx.Err() == nil && sqlState(err) == "") {
		return err
	}
	return classifyEffect(ctx, err)
}

// classifyEffect is classify for errors about the data of events: an error that no retry can heal wraps inbox.ErrPermanent.
func classifyEffect(ctx context.Context, err error) error {
	state := sqlState(err)
	err = classify(ctx, err)
	if permanentCode(state) && fault.KindOf(err) != fault.Unavailable && !inbox.Permanent(err) {
		return inbox.ErrPermanent.Wrap(err)
	}
	return err
}

// permanentCode reports whether a SQLSTATE says that the same statement with the same data never succeeds. Other violated constraints
// may heal: a foreign key's row comes from another lane, and a unique key's row may go.
func permanentCode(code string) bool {
	switch code {
	case "23502", "23514", "54000": // not null, check, program limit exceeded
		return true
	}
	return len(code) == 5 && code[:2] == "22" // data exception
}
