package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/orderstest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestUnitOfWork(t *testing.T) {
	orderstest.TestUnitOfWork(t, func(t *testing.T) orderstest.Harness { return shop{newHarness(t)} })
}

// shop is a harness with orders.
type shop struct{ *harness }

func (s shop) UnitOfWork() orders.UnitOfWork   { return postgres.NewUnitOfWork(s.db) }
func (s shop) OrderReader() orders.OrderReader { return postgres.NewOrderReader(s.db) }
func (s shop) ExpiredKeys() orders.ExpiredKeys { return postgres.NewExpiredKeys(s.db) }
func (s shop) FailNextCommit(t *testing.T)     { failNextCommit(t, s.others, "orders", "outbox") }

func (s shop) AgeKeys(t *testing.T, by time.Duration) {
	exec(t, s.others, "UPDATE request_keys SET created_at = created_at - ? * interval '1 microsecond'", by.Microseconds())
}

func (s shop) Entries(t *testing.T) []outbox.Entry {
	t.Helper()
	page, err := postgres.NewLog(s.others, "reader", quiet).
		After(t.Context(), outbox.Progress{}, relay.ReadLimit{Count: 10_000, Bytes: 1 << 30})
	require.NoError(t, err)
	return page.Entries
}

// Order reads an order with plain SQL, as a report of another program does.
func (s shop) Order(t *testing.T, id order.ID) (order.Snapshot, bool) {
	t.Helper()
	var state order.Snapshot
	var minor int64
	var currency value.Currency
	var updated time.Time
	err := s.others.QueryRowContext(t.Context(), `SELECT id, customer_id, amount_minor, currency, status, version,
		created_at, updated_at, payment_reference, carrier, tracking, cancel_reason FROM orders WHERE id = ?`, string(id)).
		Scan(&state.ID, &state.CustomerID, &minor, &currency, &state.Status, &state.Version, &state.CreatedAt, &updated,
			&state.PaymentReference, &state.Carrier, &state.Tracking, &state.CancelReason)
	if errors.Is(err, sql.ErrNoRows) {
		return order.Snapshot{}, false
	}
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), updated, time.Minute)
	state.Amount, state.CreatedAt = value.NewMoney(minor, currency), state.CreatedAt.UTC()
	return state, true
}

// failNextCommit adds a trigger that fails at the next commit of a write to one of the tables. Later commits succeed: the trigger
// counts with a sequence, which a rollback does not reset.
func failNextCommit(t *testing.T, db *bun.DB, tables ...string) {
	t.Helper()
	exec(t, db, `CREATE SEQUENCE commits;
		CREATE FUNCTION fail_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('commits') = 1 THEN RAISE 'this commit fails'; END IF;
			RETURN NULL;
		END $$`)
	for _, table := range tables {
		exec(t, db, `CREATE CONSTRAINT TRIGGER fails AFTER INSERT OR UPDATE ON ? DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION fail_first()`, bun.Ident(table))
	}
}

// statements records the statements that are sent, with BEGIN and COMMIT.
type statements struct{ operations, queries []string }

func (s *statements) BeforeQuery(ctx context.Context, event *bun.QueryEvent) context.Context {
	s.operations = append(s.operations, event.Operation())
	s.queries = append(s.queries, event.Query)
	return ctx
}

func (s *statements) AfterQuery(context.Context, *bun.QueryEvent) {}

func newOrder(t *testing.T) *order.Order {
	t.Helper()
	o, err := order.Place(order.ID(relaytest.NewMessage("", 1).ID), value.CustomerID(relaytest.NewMessage("", 1).ID),
		value.NewMoney(1, "USD"), time.Now())
	require.NoError(t, err)
	return o
}

func save(ctx context.Context, tx orders.Tx, o *order.Order) error {
	o.PullEvents()
	if err := tx.Orders.Save(ctx, o); err != nil {
		return err
	}
	return tx.Outbox.Append(ctx, relaytest.NewMessage(string(o.Snapshot().ID), o.Snapshot().Version))
}

// payment returns the work of a transaction that pays an order. It calls meanwhile after it has read the order.
func payment(id order.ID, meanwhile func()) func(ctx context.Context, tx orders.Tx) error {
	return func(ctx context.Context, tx orders.Tx) error {
		o, err := tx.Orders.Get(ctx, id)
		if err != nil {
			return err
		}
		meanwhile()
		if _, err := o.Pay("", time.Now()); err != nil {
			return err
		}
		return save(ctx, tx, o)
	}
}

func TestTransactionsSendNoMoreThanTheyMust(t *testing.T) {
	h := newHarness(t)
	sent := &statements{}
	work := postgres.NewUnitOfWork(h.db.WithQueryHook(sent))
	o := newOrder(t)
	require.NoError(t, work.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error { return save(ctx, tx, o) }))
	require.Equal(t, []string{"BEGIN", "INSERT", "WITH", "COMMIT"}, sent.operations)
	sent.operations = nil
	require.NoError(t, work.Do(t.Context(), payment(o.Snapshot().ID, func() {})))
	require.Equal(t, []string{"BEGIN", "SELECT", "UPDATE", "WITH", "COMMIT"}, sent.operations)

	sent.operations = nil
	customer := newCustomer()
	hold := func(ctx context.Context, tx orders.Tx) error {
		_, err := tx.CustomerKeys.Hold(ctx, customer)
		return err
	}
	for range 2 { // a customer's first key, and a later one
		sent.operations = nil
		require.NoError(t, work.Do(t.Context(), hold))
		require.Equal(t, []string{"BEGIN", "WITH", "COMMIT"}, sent.operations)
	}
	sent.operations = nil
	claim := func(ctx context.Context, tx orders.Tx) error {
		_, err := tx.Keys.Claim(ctx, newClaim("k"))
		return err
	}
	require.NoError(t, work.Do(t.Context(), claim))
	require.Equal(t, []string{"BEGIN", "INSERT", "COMMIT"}, sent.operations)
	sent.operations = nil
	require.NoError(t, work.Do(t.Context(), claim))
	require.Equal(t, []string{"BEGIN", "INSERT", "SELECT", "COMMIT"}, sent.operations)
}

// TestABusyDatabaseIsNotWaitedForForEver checks a pool whose connections are all in use. A new transaction fails in time. A
// running transaction may take as long as it needs.
func TestABusyDatabaseIsNotWaitedForForEver(t *testing.T) {
	db := open(t, postgres.Options{URL: infra.Database(t), MaxOpenConns: 1})
	exec(t, db, "SELECT 1") // to open a connection takes a while
	work := postgres.NewUnitOfWork(db)
	work.SetBeginTimeout(100 * time.Millisecond)
	require.NoError(t, work.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		for range 3 { // a failed try must not keep a connection
			start := time.Now()
			err := work.Do(t.Context(), func(context.Context, orders.Tx) error {
				require.Fail(t, "it ran")
				return nil
			})
			require.ErrorIs(t, err, postgres.ErrBusy)
			require.Equal(t, fault.Unavailable, fault.KindOf(err))
			require.Less(t, time.Since(start), 10*time.Second)
		}
		ended, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer end()
		err := work.Do(ended, func(context.Context, orders.Tx) error { return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded, "whose patience ended first")
		require.NotErrorIs(t, err, postgres.ErrBusy)
		return save(ctx, tx, newOrder(t))
	}))
	require.NoError(t, work.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		time.Sleep(300 * time.Millisecond)
		return save(ctx, tx, newOrder(t))
	}), "having begun, it may take its time")
}

// TestListsAreReadFromIndexes checks that a list with any filter walks an index in the order of the list. Postgres neither
// scans the table nor sorts nor uses OFFSET.
func TestListsAreReadFromIndexes(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
		SELECT gen_random_uuid(), ('00000000-0000-0000-0000-' || lpad((n % 2)::text, 12, '0'))::uuid, 1, 'USD',
			(ARRAY['created', 'paid', 'shipped', 'cancelled'])[1 + n % 4], 1, timestamptz '2026-01-01' + n * interval '1 minute', now()
		FROM generate_series(1, 30000) AS n`)
	exec(t, h.others, "ANALYZE orders")
	middle := time.Date(2026, 1, 11, 0, 0, 0, 0, time.UTC)
	after := &orders.PageCursor{CreatedAt: middle, ID: newClaim("").Order}
	const customer = "00000000-0000-0000-0000-000000000001"
	for name, filter := range map[string]orders.Filter{
		"all":                  {},
		"all, a later page":    {After: after},
		"customer":             {Customer: customer},
		"customer, later page": {Customer: customer, After: after},
		"status":               {Status: order.StatusPaid},
		"status, later page":   {Status: order.StatusPaid, After: after},
		"both":                 {Customer: customer, Status: order.StatusPaid},
		"range":                {CreatedFrom: middle.Add(-48 * time.Hour), CreatedBefore: middle},
		"everything": {
			Customer: customer, Status: order.StatusPaid, CreatedFrom: middle.Add(-240 * time.Hour), CreatedBefore: middle.Add(time.Hour), After: after,
		},
	} {
		for _, filter.Limit = range []int{1, 51, 201} {
			sent := &statements{}
			_, err := postgres.NewOrderReader(h.db.WithQueryHook(sent)).List(t.Context(), filter)
			require.NoError(t, err)
			plan := explain(t, h, sent.queries[0])
			require.Contains(t, plan, "Index Scan Backward using orders_", "%s: %s", name, plan)
			for _, wrong := range []string{"Seq Scan", "Sort", "Bitmap"} {
				require.NotContains(t, plan, wrong, "%s: %s", name, sent.queries[0])
			}
			require.NotContains(t, sent.queries[0], "OFFSET")
		}
	}
}

func explain(t *testing.T, h *harness, statement string, args ...any) (plan string) {
	t.Helper()
	rows, err := h.others.QueryContext(t.Context(), "EXPLAIN "+statement, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan += line + "\n"
	}
	require.NoError(t, rows.Err())
	return plan
}

// TestTransactionsAreTracedSideBySide checks that the statements of a transaction are children of the span around the
// transaction, not of the span of BEGIN, and that the spans say which statements were sent with COMMIT.
func TestTransactionsAreTracedSideBySide(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	db := open(t, postgres.Options{URL: infra.Database(t), TracerProvider: provider})
	ctx, around := provider.Tracer("test").Start(t.Context(), "around")
	o := newOrder(t)
	require.NoError(t, postgres.NewUnitOfWork(db).Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		require.Equal(t, around, trace.SpanFromContext(ctx))
		return save(ctx, tx, o)
	}))
	require.Len(t, recorder.Ended(), 4)
	for i, span := range recorder.Ended() {
		require.Equal(t, around.SpanContext().SpanID(), span.Parent().SpanID(), span.Name())
		late := slices.Contains(span.Attributes(), attribute.Bool("outboxie.database.late", true))
		require.Equal(t, i < 3, late, span.Name())
	}
}

// TestTransactionsChooseTheirIsolation checks that transactions run as READ COMMITTED, whatever the database's default is. Only
// then can Save see a version that another transaction has committed meanwhile.
func TestTransactionsChooseTheirIsolation(t *testing.T) {
	h := shop{newHarness(t)}
	exec(t, h.admin, "ALTER DATABASE ? SET default_transaction_isolation = 'serializable'", bun.Ident(h.name))
	o := newOrder(t)
	require.NoError(t, h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error { return save(ctx, tx, o) }))
	pay := payment(o.Snapshot().ID, func() {})
	err := h.UnitOfWork().Do(t.Context(), payment(o.Snapshot().ID, func() {
		require.NoError(t, h.UnitOfWork().Do(t.Context(), pay))
	}))
	require.ErrorIs(t, err, orders.ErrOrderChanged)
}

// TestAppendNoticesPositionsThatDoNotAscend checks that Append fails if positions descend. They would reorder the events of one
// Append.
func TestAppendNoticesPositionsThatDoNotAscend(t *testing.T) {
	h := shop{newHarness(t)}
	exec(t, h.others, "ALTER TABLE outbox ALTER COLUMN position SET INCREMENT -1 SET MINVALUE -100 RESTART 50")
	err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		return tx.Outbox.Append(ctx, relaytest.NewMessage("a", 1), relaytest.NewMessage("a", 2))
	})
	require.ErrorContains(t, err, "positions")
	require.Empty(t, h.Entries(t))
}

func TestAppendRefusesWhatPostgresCannotKeep(t *testing.T) {
	h := shop{newHarness(t)}
	message := relaytest.NewMessage("a", 1)
	message.ID = "no UUID"
	err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		return tx.Outbox.Append(ctx, message)
	})
	require.ErrorIs(t, err, outbox.ErrInvalidMessage)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

// TestAbandonedClaimEnds checks that Postgres ends a transaction that has claimed a key and is idle, so that others can claim
// the key. The same holds for a transaction that found the key claimed, because it also locks the key.
func TestAbandonedClaimEnds(t *testing.T) {
	h := shop{newHarness(t)}
	work := postgres.NewUnitOfWork(h.db)
	work.AbandonedAfter(200 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // without this limit, a failure would wait forever
	defer cancel()
	frozen, next, last := newClaim("k"), newClaim("k"), newClaim("k")
	next.Digest = orders.DigestOf("next")
	for _, step := range []struct{ frozen, holds, next orders.KeyClaim }{{frozen, frozen, next}, {last, next, next}} {
		err := work.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
			holds, err := tx.Keys.Claim(ctx, step.frozen)
			require.NoError(t, err)
			require.Equal(t, step.holds, holds)
			require.NoError(t, h.UnitOfWork().Do(ctx, func(ctx context.Context, tx orders.Tx) error {
				holds, err := tx.Keys.Claim(ctx, next) // returns when Postgres has ended the outer transaction
				require.NoError(t, err)
				require.Equal(t, step.next, holds)
				return nil
			}))
			return nil
		})
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	}
}

// TestExpiredKeysAreFoundByTheirIndex checks that deleting expired keys does not read the other keys.
func TestExpiredKeysAreFoundByTheirIndex(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO request_keys SELECT 's', 'k' || n, sha256(''), gen_random_uuid(), now() FROM generate_series(1, 5000) AS n;
		INSERT INTO idempotency_keys SELECT 'k' || n, '', gen_random_uuid(), now() FROM generate_series(1, 5000) AS n;
		ANALYZE request_keys, idempotency_keys`)
	plan := explain(t, h, postgres.DeleteStatement, orders.KeyLifetime.Microseconds(), 1000)
	require.Equal(t, 2, strings.Count(plan, "Index Cond: (created_at <="), plan)
	require.Equal(t, 2, strings.Count(plan, "Tid Scan on "), plan)
	require.NotContains(t, plan, "Seq Scan")
}

func newClaim(key orders.Key) orders.KeyClaim {
	return orders.KeyClaim{Scope: "customer", Key: key, Digest: orders.DigestOf("f"), Order: order.ID(relaytest.NewMessage("", 1).ID)}
}

// TestAbandonedTransactionEnds checks that Postgres ends a transaction that has appended and is idle, so that the log behind it
// can be published. Other transactions of the session keep the session's own timeout.
func TestAbandonedTransactionEnds(t *testing.T) {
	h := shop{newHarness(t)}
	work := postgres.NewUnitOfWork(h.db)
	work.AbandonedAfter(200 * time.Millisecond)
	for name, appends := range map[string]func(ctx context.Context, tx orders.Tx) error{
		"two messages": func(ctx context.Context, tx orders.Tx) error {
			return tx.Outbox.Append(ctx, relaytest.NewMessage("a", 1), relaytest.NewMessage("a", 2))
		},
		"one message, which is sent with the next statement": func(ctx context.Context, tx orders.Tx) error {
			require.NoError(t, tx.Outbox.Append(ctx, relaytest.NewMessage("a", 1)))
			_, err := tx.Orders.Get(ctx, newOrder(t).Snapshot().ID)
			require.ErrorIs(t, err, orders.ErrOrderNotFound)
			return nil
		},
	} {
		err := work.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
			require.NoError(t, appends(ctx, tx), name)
			time.Sleep(time.Second)
			return nil
		})
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", name, err)
		require.Empty(t, h.Entries(t), name)
	}
	require.NoError(t, work.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, tx.Outbox.Append(ctx, relaytest.NewMessage("a", 1)))
		time.Sleep(time.Second)
		return nil
	}), "nobody waits for a message that was not sent")

	db := open(t, postgres.Options{URL: infra.Database(t), MaxOpenConns: 1})
	setting := func() (idle string) {
		require.NoError(t, db.QueryRowContext(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&idle))
		return idle
	}
	before := setting()
	require.NoError(t, postgres.NewUnitOfWork(db).Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		return tx.Outbox.Append(ctx, relaytest.NewMessage("a", 1))
	}))
	require.Equal(t, before, setting(), "nothing stays behind in the session")
}
