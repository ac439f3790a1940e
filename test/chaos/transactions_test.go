package chaos_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// shared is how many orders the writers of plain SQL share: enough to commit in any order, few enough to collide.
const shared = 24

// sqlCustomer is the customer of the orders that are written by plain SQL.
const sqlCustomer = "00000000-0000-4000-8000-000000000001"

// sqlWriter writes orders and events in transactions of its own, as another program would. Some commit late, so that positions become visible
// out of order, and some roll back, completely or to a savepoint.
type sqlWriter struct {
	db     *sql.DB
	ledger *ordercheck.Ledger
	random *rand.Rand
	every  time.Duration
	wait   *atomic.Bool // true: write nothing now
	// deployed reports that every subscriber wants the new type.
	deployed *atomic.Bool
}

// run writes until ctx ends. The ledger records the outcome of each transaction. If the answer to the commit is lost, it records nothing: the
// log shows the outcome, and the stream has to agree.
func (w *sqlWriter) run(ctx context.Context) {
	for pause(ctx, time.Duration(w.random.ExpFloat64()*float64(w.every))) {
		if w.wait.Load() {
			continue
		}
		order := uuid.NewSHA1(uuid.Nil, []byte{byte(w.random.IntN(shared))})
		_ = w.transact(order) // the ledger knows the outcome; outages are injected
	}
}

func (w *sqlWriter) transact(order uuid.UUID) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	var written []checker.ID
	undo := func(err error) error {
		w.ledger.RolledBack(written...)
		return err
	}
	for range 1 + w.random.IntN(3) {
		if w.random.IntN(6) == 0 {
			lost, err := w.rolledBackToSavepoint(ctx, tx, order)
			if err != nil {
				return undo(err)
			}
			w.ledger.RolledBack(lost)
		}
		what := special{broken: w.random.IntN(*poison) == 0, shipped: w.random.IntN(10) == 0 && w.deployed.Load()}
		event, err := appendEvent(ctx, tx, order, what)
		if err != nil {
			return undo(err)
		}
		if what.broken {
			w.ledger.Poisoned(event)
		}
		written = append(written, event)
	}
	if w.random.IntN(*poison) == 0 {
		failing, err := w.failingOrder(ctx, tx)
		if written = append(written, failing...); err != nil {
			return undo(err)
		}
	}
	linger := time.Duration(w.random.IntN(30)) * time.Millisecond
	if w.random.IntN(50) == 0 {
		linger *= 10
	}
	time.Sleep(linger)
	if w.random.IntN(5) == 0 {
		return undo(tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	w.ledger.Committed(written...)
	return nil
}

// rolledBackToSavepoint writes an event and rolls back to a savepoint before it.
func (*sqlWriter) rolledBackToSavepoint(ctx context.Context, tx *sql.Tx, order uuid.UUID) (checker.ID, error) {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT detour"); err != nil {
		return checker.ID{}, err
	}
	lost, err := appendEvent(ctx, tx, order, special{})
	if err != nil {
		return lost, err
	}
	_, err = tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT detour")
	return lost, err
}

// special describes what is unusual about an event.
type special struct {
	customer string // whose order it is; empty: sqlCustomer's
	ballast  string // makes its body large
	broken   bool   // no subscriber can read its body
	shipped  bool   // it is of the new type
}

// appendEvent locks the order, raises its version and appends the event.
func appendEvent(ctx context.Context, tx *sql.Tx, order uuid.UUID, what special) (checker.ID, error) {
	customer := cmp.Or(what.customer, sqlCustomer)
	var version int64
	if err := tx.QueryRowContext(ctx, `INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
		VALUES ($1, $2, 1, 'EUR', 'created', 1, now(), now())
		ON CONFLICT (id) DO UPDATE SET version = orders.version + 1, status = 'paid', updated_at = now()
		RETURNING version`, order, customer).Scan(&version); err != nil {
		return checker.ID{}, err
	}
	status := "created"
	if version > 1 || what.broken {
		status = "paid"
	}
	if version > 1 && what.shipped && !what.broken {
		status = "shipped"
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	body := fmt.Sprintf(`{"order_id":%q,"customer_id":%q,"amount":"0.01","currency":"EUR","status":%q,"version":%d,"created_at":%q,"%s_at":%q,"ballast":%q}`,
		order, customer, status, version, now, status, now, what.ballast)
	if what.broken {
		body = `{"amount": "nonsense"}`
	}
	event := uuid.New()
	_, err := tx.ExecContext(ctx, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES ($1, 'order', $2, $3, $4, $5, $6)`,
		event, order.String(), version, "outboxie.order."+status+".v1", "orders."+status, body)
	return checker.ID(event), err
}

// oversized is a text larger than the broker accepts in one message.
var oversized = strings.Repeat("x", 1_200_000)

// commitEvent appends one event in a transaction of its own, and records the outcome in the ledger.
func commitEvent(ctx context.Context, db *sql.DB, ledger *ordercheck.Ledger, order uuid.UUID, what special) (checker.ID, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return checker.ID{}, err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	event, err := appendEvent(ctx, tx, order, what)
	if err != nil {
		return event, err
	}
	if err := tx.Commit(); err != nil {
		return event, err
	}
	ledger.Committed(event)
	return event, nil
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
