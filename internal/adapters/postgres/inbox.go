package postgres

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// InboxOptions are the settings of an Inbox.
type InboxOptions struct {
	// IdleTimeout is how long a transaction may send nothing. After that Postgres ends the transaction and frees its lane; 0: 5 s. It must
	// exceed the longest call of a handler.
	IdleTimeout time.Duration
}

const defaultIdleTimeout = 5 * time.Second

// Inbox keeps a subscriber's checkpoints, applies each event once, and keeps dead letters.
//
// An event has at most one row in inbox. If two transactions work on the same new event, the table's key lets only one of them insert the
// row, so only that one decides about the event. The column applied_at says whether the event was applied; it is NULL if the event has a
// letter. A transaction locks an event's letter, if there is one, before the event's row in inbox.
type Inbox struct {
	db           *bun.DB
	idleTimeout  time.Duration
	redeliveries atomic.Uint64 // calls of Redeliver
}

var _ inbox.UnitOfWork = (*Inbox)(nil)

// NewInbox returns an inbox on db.
func NewInbox(db *bun.DB, options InboxOptions) *Inbox {
	if options.IdleTimeout <= 0 {
		options.IdleTimeout = defaultIdleTimeout
	}
	return &Inbox{db: db, idleTimeout: options.IdleTimeout}
}

// Apply makes three round trips to Postgres. The first begins the transaction, takes and moves the lane, and records the events. The second
// writes what the handlers collected. The third commits. There are more round trips if the subscriber has letters, or if events were
// recorded before.
func (i *Inbox) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (outcome inbox.Outcome, err error) {
	err = transact(guarded(withLateBegin(ctx)), i.db, func(ctx context.Context, tx bun.Tx) error {
		a := &application{
			tx: tx, subscriber: subscriber, batch: batch, handler: handler, judge: judge, effects: newEffects(tx, subscriber, handler),
			idle: idleGuard{tx: tx, timeout: i.idleTimeout, lastStatement: time.Now()},
		}
		defer a.effects.end()
		if err := a.run(ctx, i.idleTimeout); err != nil {
			return err
		}
		outcome = inbox.Outcome{Checkpoint: a.moved(), Results: a.results, Letters: a.letters, Emitted: a.effects.emitted}
		return nil
	})
	if err != nil {
		return inbox.Outcome{}, err
	}
	return outcome, nil
}

// application applies one batch in one transaction.
type application struct {
	tx         bun.Tx
	subscriber string
	batch      inbox.Batch
	handler    inbox.Handler
	judge      inbox.FailurePolicy
	effects    *effects
	idle       idleGuard

	anyLetters bool                // the subscriber has letters that are not discarded
	attempts   map[string]int      // failures so far, by letter id, for the batch's events that have failing letters
	fresh      []bool              // by index: the event was not recorded before, so this batch handles it
	recorded   int                 // events that got a row in inbox
	held       map[outbox.Key]bool // aggregates that have pending letters
	results    []inbox.Result
	letters    []inbox.Letter

	recordedBefore struct { // the events that were recorded before
		ids       []string
		sequences []int64
	}
}

func (a *application) run(ctx context.Context, idleTimeout time.Duration) error {
	a.fresh = make([]bool, len(a.batch.Events))
	a.results = make([]inbox.Result, len(a.batch.Events))
	a.held = make(map[outbox.Key]bool)
	rows := a.rows()
	if err := a.lockCounts(ctx); err != nil {
		return err
	}
	if err := a.take(ctx, rows, idleTimeout); err != nil {
		return err
	}
	if err := a.lockFailing(ctx); err != nil {
		return err
	}
	if err := a.record(ctx, rows); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		a.findHeld, a.handle, a.keepHeld, a.reopen, a.endFailing, a.updateSequences, a.mark, a.count,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// handle decides about each event, in order. It calls the handler for the events that take effect now.
func (a *application) handle(ctx context.Context) error {
	for i, event := range a.batch.Events {
		switch {
		case event.Unreadable != nil:
			if err := a.reject(ctx, i, event.Unreadable); err != nil {
				return err
			}
		case !isUUID(event.ID):
			if err := a.reject(ctx, i, inbox.ErrUnreadable.With("its id %.64q is not a UUID", event.ID)); err != nil {
				return err
			}
		case !a.fresh[i]:
			a.results[i] = inbox.Duplicate
		case a.held[event.Key]:
			a.results[i] = inbox.Held
		case event.NoHandler:
			if err := a.leave(ctx, i); err != nil {
				return err
			}
		case event.Suspect:
			if err := a.suspect(ctx, i); err != nil {
				return err
			}
		default:
			if err := a.idle.handle(ctx, a.handler, a.effects, event.Entry); err != nil {
				return &inbox.EventError{Index: i, Err: err}
			}
		}
	}
	return a.flush(ctx)
}

func (a *application) flush(ctx context.Context) error {
	if err := a.effects.flush(ctx); err != nil {
		return &inbox.CollectedError{Err: err}
	}
	return nil
}

// suspect handles one event within a savepoint, after it has written the effects of the events before. If the event fails, later events of
// its aggregate are held.
func (a *application) suspect(ctx context.Context, index int) error {
	if err := a.flush(ctx); err != nil {
		return err
	}
	if err := a.exec(ctx, "SAVEPOINT suspect"); err != nil {
		return err
	}
	event := a.batch.Events[index]
	own := newEffects(a.tx, a.subscriber, a.handler)
	defer own.end()
	failed := a.idle.handle(ctx, a.handler, own, event.Entry)
	if failed == nil {
		failed = own.flush(ctx)
	}
	if failed == nil {
		a.effects.emitted += own.emitted
		return a.exec(ctx, "RELEASE SAVEPOINT suspect")
	}
	if err := a.exec(ctx, "ROLLBACK TO SAVEPOINT suspect"); err != nil {
		return err
	}
	attempts := a.attempts[letterID(event.ID)]
	failure, err := a.judge(event.Entry, attempts, failed)
	if err != nil {
		return err
	}
	a.held[event.Key] = true
	letter := inbox.Letter{Entry: event.Entry, Attempts: attempts}.Failed(failure)
	return a.setAside(ctx, index, letter, failure.Wait)
}

// exec runs a statement and ignores its result.
func (a *application) exec(ctx context.Context, statement string, args ...any) error {
	_, err := a.tx.ExecContext(ctx, statement, args...)
	return classify(ctx, err)
}

// affected returns a function that classifies the error of a statement, or returns how many rows the statement changed.
func affected(ctx context.Context) func(result sql.Result, err error) (int, error) {
	return func(result sql.Result, err error) (int, error) {
		if err != nil {
			return 0, classify(ctx, err)
		}
		rows, err := result.RowsAffected()
		return int(rows), classify(ctx, err)
	}
}
