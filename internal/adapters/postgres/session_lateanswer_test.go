package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/test/infra"
)

var errJudged = errors.New("judged")

// TestStatementsWithALateAnswer checks that a statement with a late answer is sent with what follows it, in its order, and that its error
// becomes the error of what follows it. Afterwards the connection is free.
func TestStatementsWithALateAnswer(t *testing.T) {
	address := infra.Database(t)
	l := lateTransactions{
		watch: open(t, postgres.Options{URL: address, ApplicationName: "watch"}),
		db:    open(t, postgres.Options{URL: address, ApplicationName: "late", MaxOpenConns: 1}),
	}
	exec(t, l.db, "CREATE TABLE numbers (n int PRIMARY KEY)")
	judged := 0
	ctx := postgres.WithLateAnswer(t.Context(), func(err error) error {
		judged++
		return errors.Join(errJudged, err)
	})
	insert := func(tx lateTx, n int) { require.NoError(t, tx.late(ctx, n)) }
	for _, form := range []string{"exec", "query"} {
		t.Run(form, func(t *testing.T) {
			begin := func() lateTx { return lateTx{l.begin(t.Context(), t), form} }
			exec(t, l.watch, "TRUNCATE numbers; INSERT INTO numbers VALUES (0)")
			judged = 0

			tx := begin()
			insert(tx, 1)
			insert(tx, 2)
			l.requireState(t, "idle")
			require.NoError(t, tx.Commit())
			require.Equal(t, 3, l.count(t), "both went with COMMIT")
			require.Zero(t, judged)

			tx = begin()
			insert(tx, 3)
			require.NoError(t, tx.Rollback())
			require.Equal(t, 3, l.count(t), "it was never sent")

			for _, next := range []string{"exec", "query"} {
				tx = begin()
				insert(tx, 3)
				require.NoError(t, firstStatements[next](t.Context(), t, tx.Tx, 4), "it sees what was sent with it")
				l.requireState(t, "idle in transaction")
				require.NoError(t, tx.Rollback())

				tx = begin()
				insert(tx, 1)
				require.ErrorIs(t, firstStatements[next](t.Context(), t, tx.Tx, 4), errJudged)
				l.requireState(t, "idle in transaction (aborted)")
				require.ErrorIs(t, firstStatements[next](t.Context(), t, tx.Tx, 4), errJudged, "it takes no further statement")
				require.ErrorIs(t, tx.late(ctx, 4), errJudged)
				require.ErrorIs(t, tx.Commit(), errJudged)
				l.requireState(t, "idle")

				tx = begin()
				require.Error(t, firstStatements["exec"](t.Context(), t, tx.Tx, 1<<40), "Postgres cannot read the number")
				require.Error(t, firstStatements[next](t.Context(), t, tx.Tx, 4))
				require.Error(t, tx.Commit())
				require.Equal(t, 3, l.count(t), "nothing runs outside of the transaction")
			}

			judged = 0
			tx = begin()
			insert(tx, 3)
			insert(tx, 1)
			insert(tx, 5)
			err := tx.Commit()
			require.ErrorIs(t, err, errJudged)
			require.ErrorContains(t, err, "23505")
			require.Equal(t, 1, judged, "what came after the error was not run")
			l.requireState(t, "idle")
			require.Equal(t, 3, l.count(t))

			tx = begin()
			require.NoError(t, firstStatements["exec"](t.Context(), t, tx.Tx, 3))
			_, err = tx.ExecContext(t.Context(), "COMMIT")
			require.NoError(t, err)
			require.Error(t, tx.Commit(), "it has ended already")
			require.NoError(t, begin().Commit())
		})
	}
}

// lateTx inserts numbers with statements that have a late answer.
type lateTx struct {
	bun.Tx
	form string
}

func (tx lateTx) late(ctx context.Context, n int) error {
	if tx.form == "exec" {
		_, err := tx.ExecContext(ctx, "INSERT INTO numbers VALUES (?)", n)
		return err
	}
	rows, err := tx.QueryContext(ctx, "INSERT INTO numbers VALUES (?) RETURNING n", n)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		return errors.New("there is a row")
	}
	return rows.Err()
}

// wire passes the bytes between one client and Postgres on, counts the client's messages, and can be cut.
type wire struct {
	listener          net.Listener
	trips             atomic.Int64 // chunks that the client sent
	armed             atomic.Bool  // the rests count
	requests, answers atomic.Int64 // how many bytes may still pass
	worked            sync.WaitGroup
}

// newWire returns a wire to a database, and the address of the database behind it.
func newWire(t *testing.T, direct string) (w *wire, address string) {
	t.Helper()
	parsed, err := url.Parse(direct)
	require.NoError(t, err)
	w = &wire{}
	w.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	target := parsed.Host
	w.worked.Go(func() {
		for {
			client, err := w.listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			w.worked.Go(func() { w.pass(server, client, &w.requests, &w.trips) })
			w.worked.Go(func() { w.pass(client, server, &w.answers, new(atomic.Int64)) })
		}
	})
	t.Cleanup(func() {
		_ = w.listener.Close()
		w.worked.Wait()
	})
	parsed.Host = w.listener.Addr().String()
	return w, parsed.String()
}

// pass passes bytes on until a connection ends, or no more bytes may pass. Then it closes both connections.
func (w *wire) pass(to, from net.Conn, rest, chunks *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		chunks.Add(1)
		if w.armed.Load() {
			if left := rest.Add(-int64(n)); left < 0 {
				_, _ = to.Write(buffer[:max(int64(n)+left, 0)])
				w.armed.Store(false)
				return
			}
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cutAfter lets so many bytes of requests and of answers pass from now on, and cuts the connection at the next byte.
func (w *wire) cutAfter(requests, answers int64) {
	w.requests.Store(requests)
	w.answers.Store(answers)
	w.armed.Store(true)
}

const unlimited = 1 << 40

// TestRoundTrips checks how many round trips a new order and its change take.
func TestRoundTrips(t *testing.T) {
	w, address := newWire(t, infra.Database(t))
	work := postgres.NewUnitOfWork(open(t, postgres.Options{URL: address, MaxOpenConns: 1}))
	trips := func(fn func(ctx context.Context, tx orders.Tx) error) int64 {
		t.Helper()
		before := w.trips.Load()
		require.NoError(t, work.Do(t.Context(), fn))
		return w.trips.Load() - before
	}
	claiming := func(next func(ctx context.Context, tx orders.Tx) error) func(ctx context.Context, tx orders.Tx) error {
		return func(ctx context.Context, tx orders.Tx) error {
			mine := newClaim(orders.Key(rand.Text()))
			if holds, err := tx.Keys.Claim(ctx, mine); err != nil || holds != mine {
				return fmt.Errorf("claimed %v: %w", holds, err)
			}
			return next(ctx, tx)
		}
	}
	first, second := newOrder(t), newOrder(t)
	nothing := func(context.Context, orders.Tx) error { return nil }
	trips(nothing) // it connects
	trips(nothing) // the first reuse of a connection pings
	require.EqualValues(t, 0, trips(nothing))
	require.EqualValues(t, 1, trips(saving(first)), "a new order")
	require.EqualValues(t, 2, trips(claiming(saving(second))), "with a key")
	require.EqualValues(t, 3, trips(paying(first.Snapshot().ID)), "a change")
	require.EqualValues(t, 4, trips(claiming(paying(second.Snapshot().ID))), "a change with a key")
}

// TestACutAtEachByte cuts the connection after each byte of the request and of the answer. It checks that a new order is stored with its event or
// not at all, and that the caller gets an outage as the error.
func TestACutAtEachByte(t *testing.T) {
	direct := infra.Database(t)
	w, address := newWire(t, direct)
	watch := open(t, postgres.Options{URL: direct})
	work := postgres.NewUnitOfWork(open(t, postgres.Options{URL: address, MaxOpenConns: 1}))
	stored := func(id order.ID) (orders, events int) {
		t.Helper()
		require.NoError(t, watch.NewRaw("SELECT (SELECT count(*) FROM orders WHERE id = ?0), (SELECT count(*) FROM outbox WHERE aggregate_id = ?0::text)",
			string(id)).Scan(t.Context(), &orders, &events))
		return orders, events
	}
	for name, cut := range map[string]struct {
		at     func(n int64)
		stores bool // what the cut leaves is stored
	}{
		"of the request": {func(n int64) { w.cutAfter(n, unlimited) }, false},
		"of the answer":  {func(n int64) { w.cutAfter(unlimited, n) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			for n := int64(0); ; n++ {
				for range 2 { // it connects again; the first reuse of a connection pings
					require.NoError(t, work.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
						_, _, err := tx.Keys.Find(ctx, "nobody", "k")
						return err
					}))
				}
				o := newOrder(t)
				cut.at(n)
				err := work.Do(t.Context(), saving(o))
				whole := w.armed.Swap(false)
				orders, events := stored(o.Snapshot().ID)
				require.Equal(t, orders, events, "cut after %d bytes", n)
				if whole {
					require.NoError(t, err)
					require.Equal(t, 1, orders)
					require.Greater(t, n, int64(20), "the cut was tried")
					t.Logf("%d cuts", n)
					return
				}
				require.Equal(t, fault.Unavailable, fault.KindOf(err), "cut after %d bytes: %v", n, err)
				require.Equal(t, cut.stores, orders == 1, "cut after %d bytes", n)
			}
		})
	}
}

// TestAnEventThatIsNotStoredKeepsItsOrderOut checks that no order is committed without its event, although nobody looks at the answer before the
// commit: here a trigger leaves the event out.
func TestAnEventThatIsNotStoredKeepsItsOrderOut(t *testing.T) {
	h := shop{newHarness(t)}
	exec(t, h.others, `CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER leave_out BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION leave_out()`)
	o := newOrder(t)
	err := h.UnitOfWork().Do(t.Context(), saving(o))
	require.Equal(t, fault.Internal, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "was not stored")
	var stored int
	require.NoError(t, h.others.QueryRowContext(t.Context(), "SELECT count(*) FROM orders").Scan(&stored))
	require.Zero(t, stored)
}

func saving(o *order.Order) func(ctx context.Context, tx orders.Tx) error {
	return func(ctx context.Context, tx orders.Tx) error { return save(ctx, tx, o) }
}

func paying(id order.ID) func(ctx context.Context, tx orders.Tx) error {
	return func(ctx context.Context, tx orders.Tx) error {
		o, err := tx.Orders.Get(ctx, id)
		if err != nil {
			return err
		}
		if _, err := o.Pay("P-1", time.Now()); err != nil {
			return err
		}
		return save(ctx, tx, o)
	}
}
