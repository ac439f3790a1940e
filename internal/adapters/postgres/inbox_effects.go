package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// effects is the inbox.Tx that handlers get, for a transaction or a savepoint. It collects the writes of the handlers, and sends all of
// them at once. So every transaction locks shared rows in the same order, and holds the locks for a short time. If each event had
// statements of its own, the order of the locks would be the order of the events, and two lanes could wait for each other.
//
// A handler may keep its Tx after the transaction has ended, so effects is safe for concurrent use.
type effects struct {
	tx         bun.Tx
	subscriber string
	handler    string // its name

	mu         sync.Mutex
	ended      bool
	direct     bool        // somebody has used the transaction itself, see Transaction
	writing    bool        // flush writes what was collected
	collectors []collector // since the last flush
	emitted    int         // events that were written to the log
}

// collector collects for one port. One caller uses it at a time.
type collector interface {
	// rank says when the collector is written, among the collectors of a transaction. Each collector has a different rank. So all
	// transactions take locks in the same order.
	rank() int
	// flush sends the collected writes of a subscriber in tx. It is called once.
	flush(ctx context.Context, tx bun.Tx, subscriber string) error
}

// The ranks. Emitted events come last, because the log's readers wait for a transaction that has written to the log.
const (
	rankTotals   = iota + 1
	rankDeferred // the first of the ranks of Defer
	rankEmitted  = 1 << 30
)

// newEffects returns the effects of a subscriber's handler. They are written in tx.
func newEffects(tx bun.Tx, subscriber string, handler inbox.Handler) *effects {
	return &effects{tx: tx, subscriber: subscriber, handler: handler.Name()}
}

// Subscriber returns the name of the subscriber.
func (e *effects) Subscriber() string { return e.subscriber }

// collect calls add with the collector of a port in a transaction. The collector is empty at first, and after each flush.
func collect[T any, C interface {
	*T
	collector
}](tx inbox.Tx, add func(c C)) error {
	e, err := effectsOf(tx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.collects(); err != nil {
		return err
	}
	for _, other := range e.collectors {
		if c, found := other.(C); found {
			add(c)
			return nil
		}
	}
	c := C(new(T))
	e.collectors = append(e.collectors, c)
	add(c)
	return nil
}

// errEnded reports that a handler has kept its Tx after the transaction ended.
var errEnded = sql.ErrTxDone

var errWriting = errors.New("nothing can be collected while a transaction writes what was collected")

// collects returns why nothing can be collected, or nil. The caller holds mu.
func (e *effects) collects() error {
	switch {
	case e.ended:
		return errEnded
	case e.writing:
		return errWriting
	}
	return nil
}

func effectsOf(tx inbox.Tx) (*effects, error) {
	e, ours := tx.(*effects)
	if !ours {
		return nil, fmt.Errorf("the transaction is a %T, which is not one of Postgres", tx)
	}
	return e, nil
}

// flush sends the writes that were collected since the last flush. Handlers may collect more afterwards. If flush fails, the collected
// writes are lost: the caller must roll back the transaction or the savepoint. flush returns the errors of classifyEffect.
func (e *effects) flush(ctx context.Context) error {
	collectors := e.drop(true)
	defer e.drop(false)
	slices.SortFunc(collectors, func(a, b collector) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, c := range collectors {
		if err := c.flush(ctx, e.tx, e.subscriber); err != nil {
			_ = e.inspect(ctx) // closes the rows that a failed write left open
			return classifyEffect(ctx, err)
		}
		if err := e.inspect(ctx); err != nil {
			return err
		}
		if events, found := c.(*emitted); found {
			e.emitted += events.Len()
		}
	}
	return nil
}

// drop removes the collectors, and returns them. writing says whether flush writes them now.
func (e *effects) drop(writing bool) []collector {
	e.mu.Lock()
	defer e.mu.Unlock()
	collectors := e.collectors
	e.collectors, e.writing = nil, writing
	return collectors
}

// end drops the writes that were collected and not sent. After end, a handler that has kept its Tx gets an error.
func (e *effects) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended, e.collectors = true, nil
}

// handleSafely calls handler for entry. A panic becomes an error with the handler's stack. An error that does not come from Postgres stays
// as it is, unless ctx has ended. For example, a timeout inside the handler does not mean that the database is down.
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

// classifyEffect is classify for errors about the data of events. An error that no retry can repair wraps inbox.ErrPermanent.
func classifyEffect(ctx context.Context, err error) error {
	state := sqlState(err)
	err = classify(ctx, err)
	if permanentCode(state) && fault.KindOf(err) != fault.Unavailable && !inbox.Permanent(err) {
		return inbox.ErrPermanent.Wrap(err)
	}
	return err
}

// permanentCode reports whether a SQLSTATE says that the same statement with the same data never succeeds. Violations of other constraints
// may end: another lane may insert the row that a foreign key needs, and the row with the same unique key may be deleted.
func permanentCode(code string) bool {
	switch code {
	case "23502", "23514", "54000": // not null, check, program limit exceeded
		return true
	}
	return len(code) == 5 && code[:2] == "22" // data exception
}
