package postgres

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// idleGuard sends a statement from time to time while handlers work and send nothing. Otherwise Postgres would end the transaction because
// it is idle. A frozen process sends nothing, so Postgres does end its transaction.
type idleGuard struct {
	tx            bun.Tx
	timeout       time.Duration
	lastStatement time.Time // the transaction sent its last statement at this time, or later
}

// handle calls handler for entry. It fails with ErrUnavailable if this one call takes longer than the idle timeout.
func (a *idleGuard) handle(ctx context.Context, handler inbox.Handler, effects *effects, entry outbox.Entry) error {
	began := time.Now()
	err := handleSafely(ctx, handler, effects, entry)
	if unusable := effects.inspect(ctx); err == nil {
		err = unusable
	}
	if took := time.Since(began); took >= a.timeout {
		return ErrUnavailable.With("the handler of event %s took %s, and Postgres ends a transaction that sends nothing for %s: "+
			"let the handler take less, or raise the idle timeout", entry.ID, took.Round(time.Millisecond), a.timeout)
	}
	if err != nil || time.Since(a.lastStatement) < a.timeout/4 {
		return err
	}
	_, err = a.tx.ExecContext(ctx, "SELECT")
	a.lastStatement = time.Now()
	return classify(ctx, err)
}
