package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestTwoLeaders checks that the stream has each committed event once, in order, and nothing else, although two relays lead at the same
// time without a lease, 32 writers commit in any order and roll back, and the broker goes away twice.
func TestTwoLeaders(t *testing.T) {
	database, broker := infra.Database(t), infra.NATS(t)
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(40)

	ctx, stop := context.WithCancel(t.Context())
	var relays sync.WaitGroup
	conflicts := make([]*countConflicts, 2)
	lease := &oneForAll{}
	for i := range conflicts {
		conflicts[i] = startRelay(ctx, t, &relays, database, broker.URL, lease)
	}
	const writers, transactions = 32, 60
	var writing sync.WaitGroup
	for writer := range writers {
		writing.Go(func() { write(t, db, writer, transactions) })
	}
	for outage := range 2 { // after about a third of the events, and after two thirds
		require.Eventually(t, func() bool {
			return count(t, db, "SELECT count(*) FROM outbox") > (outage+1)*writers*transactions/2
		}, waitTimeout, time.Millisecond)
		broker.Stop()
		broker.Start()
	}
	writing.Wait()
	events := count(t, db, "SELECT count(*) FROM outbox")
	require.Eventually(t, func() bool { return published(t, broker.URL) == uint64(events) }, waitTimeout, 20*time.Millisecond)
	stop()
	relays.Wait()
	requireStream(t, db, broker.URL, "ORDERS")
	require.Zero(t, count(t, db, `SELECT count(*) FROM (SELECT aggregate_version,
		row_number() OVER (PARTITION BY aggregate_id ORDER BY position) AS place FROM outbox) AS o WHERE aggregate_version <> place`),
		"positions ascend with versions")
	t.Logf("%d events, %d and %d appends were refused", events, conflicts[0].count, conflicts[1].count)
	require.NotZero(t, conflicts[0].count+conflicts[1].count, "the two never met")
}

// write commits small transactions to the ten aggregates that all writers share; some roll back, some wait between the row and the commit.
func write(t *testing.T, db *sql.DB, writer, transactions int) {
	random := rand.New(rand.NewPCG(uint64(writer), 1)) //nolint:gosec // repeatable
	for range transactions {
		if err := transact(db, random); err != nil && !errors.Is(err, errRollback) {
			t.Errorf("writer %d: %v", writer, err)
			return
		}
	}
}

var errRollback = errors.New("rolled back on purpose")

func transact(db *sql.DB, random *rand.Rand) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	order := uuid.NewSHA1(uuid.Nil, []byte{byte(random.IntN(10))}).String()
	var version int64
	err = tx.QueryRow(`INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
		VALUES ($1, $1, 1, 'USD', 'created', 1, now(), now()) ON CONFLICT (id) DO UPDATE SET version = orders.version + 1
		RETURNING version`, order).Scan(&version)
	if err != nil {
		return err
	}
	for n := range 1 + random.IntN(3) {
		if n > 0 {
			if err := tx.QueryRow(`UPDATE orders SET version = version + 1 WHERE id = $1 RETURNING version`, order).Scan(&version); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			VALUES ($1, 'order', $2, $3, 'test.v1', 'orders.created', $4)`, uuid.NewString(), order, version, fmt.Sprintf(`{"n": %d}`, n))
		if err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
	if random.IntN(5) == 0 {
		return errRollback
	}
	return tx.Commit()
}

func startRelay(ctx context.Context, t *testing.T, running *sync.WaitGroup, database, broker string, elector relay.Elector) *countConflicts {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(postgres.Options{URL: database})
	require.NoError(t, err)
	nc, err := jetstream.Connect(jetstream.Options{URL: broker, Name: t.Name(), Logger: quiet})
	require.NoError(t, err)
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: "ORDERS", Subjects: "orders.>", Source: "/outboxie/orders", Logger: quiet})
	require.NoError(t, err)
	counted := &countConflicts{Publisher: publisher}
	notifier := memory.NewNotifier()
	r := relaying.New(relaying.Ports{
		Log: postgres.NewLog(db, "ORDERS", quiet), Cursors: unfenced{}, Parking: empty{}, Publisher: counted,
		Elector: elector, Liveness: jetstream.NewLiveness(nc, "ORDERS", quiet), Notifier: notifier, Listener: notifier,
	}, relaying.Options{LeaseTTL: time.Second, Poll: 20 * time.Millisecond, Batch: relay.ReadLimit{Count: 50, Bytes: 1 << 20}}, quiet)
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("the relay ended: %v", err)
		}
		nc.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return counted
}

// oneForAll gives the lease to everybody who asks.
type oneForAll struct{}

func (*oneForAll) Acquire(context.Context, int64) (relay.Term, error) {
	return relay.Term{Token: 1, Deadline: time.Now().Add(time.Second)}, nil
}

func (e *oneForAll) Renew(ctx context.Context, _ relay.Term) (relay.Term, error) {
	return e.Acquire(ctx, 0)
}
func (*oneForAll) Resign(context.Context, relay.Term) error { return nil }

// unfenced forgets every cursor, so that each take-over has nothing but the stream's tail.
type unfenced struct{}

func (unfenced) Load(context.Context) (relay.Cursor, error) { return relay.Cursor{}, nil }
func (unfenced) Save(_ context.Context, _ relay.WriteFence, c relay.Cursor) (relay.Cursor, error) {
	return c, nil
}
func (unfenced) Report(context.Context, relay.WriteFence, *relay.Halt) error { return nil }

// empty is a parking lot that is always empty.
type empty struct{ relay.Parking }

func (empty) Reconcile(context.Context, relay.WriteFence, relay.MessageMeta, uint64, bool) (relay.ParkingSummary, error) {
	return relay.ParkingSummary{}, nil
}

// countConflicts counts the appends that were refused because the other relay was first.
type countConflicts struct {
	relay.Publisher
	count int
}

func (c *countConflicts) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	last, err := c.Publisher.Publish(ctx, after, batch)
	if errors.Is(err, relay.ErrTailMoved) {
		c.count++
	}
	return last, err
}
