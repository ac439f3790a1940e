package e2e_test

import (
	"database/sql"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/contract"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestDistributed checks three instances and three subscribers, and kills the leader with kill -9 under load. Another instance takes over
// without waiting for the lease, every order reaches every subscriber once, and the stream holds every event once, in order.
func TestDistributed(t *testing.T) {
	const ttl = 10 * time.Second
	database, broker := infra.Database(t), infra.Broker(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=" + ttl.String()}
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()

	ids := []string{"app1", "app2", "app3"}
	instances := make(map[string]*infra.Process)
	for _, id := range ids {
		instances[id] = infra.Serve(t, id, environment)
	}
	subscribers := []string{"emails", "vouchers", "search"}
	for _, id := range subscribers {
		infra.Launch(t, environment, "subscribe", "--id", id)
	}
	first := holder(t, db)
	instances[first].WaitFor("became leader instance=" + first + " token=1")

	var survivors []string
	for _, id := range ids {
		if id != first {
			survivors = append(survivors, instances[id].API())
		}
	}
	const writers, each = 8, 40
	posted := startPosting(survivors, writers, each)
	require.Eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM outbox") > writers*each/4 }, waitTimeout, 5*time.Millisecond)
	killed := time.Now()
	instances[first].Kill()
	var second string
	require.Eventually(t, func() bool {
		second = holder(t, db)
		return second != first
	}, busy*followedWorst, 2*time.Millisecond, "nobody took over before the lease ended")
	t.Logf("%s took over from %s after %s", second, first, time.Since(killed).Round(time.Millisecond))
	require.NoError(t, posted())

	for _, subscriber := range subscribers {
		received := func() int {
			return count(t, db, "SELECT coalesce(sum(orders), 0) FROM customer_totals WHERE subscriber = '"+subscriber+"'")
		}
		require.Eventually(t, func() bool { return received() >= writers*each }, waitTimeout, 20*time.Millisecond,
			"%s received %d of %d", subscriber, received(), writers*each)
		require.Equal(t, writers*each, received())
	}
	requireStream(t, db, broker, "ORDERS")
}

// startPosting lets writers place orders over several instances. A writer stops at its first error. wait waits for all writers, and returns
// their errors.
func startPosting(apis []string, writers, each int) (wait func() error) {
	var posting sync.WaitGroup
	failures := make([]error, writers)
	for writer := range writers {
		posting.Go(func() {
			for n := range each {
				if _, err := infra.Place(apis[(writer+n)%len(apis)]); err != nil {
					failures[writer] = err
					return
				}
				time.Sleep(5 * time.Millisecond) // spreads the orders over the failover
			}
		})
	}
	return func() error {
		posting.Wait()
		return errors.Join(failures...)
	}
}

// holder returns the instance that got the lease last.
func holder(t *testing.T, db *sql.DB) string {
	t.Helper()
	var name string
	require.Eventually(t, func() bool {
		return db.QueryRow("SELECT holder FROM leases").Scan(&name) == nil
	}, waitTimeout, 5*time.Millisecond)
	return name
}

func count(t *testing.T, db *sql.DB, query string) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow(query).Scan(&n))
	return n
}

// requireStream compares the stream with the log, message by message, through nothing but the NATS client and SQL: each
// event once, in order of position, with the row's id, key and payload.
func requireStream(t *testing.T, db *sql.DB, broker, stream string) {
	t.Helper()
	js, done := connect(t, broker)
	defer done()
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	rows, err := db.Query(`SELECT position, event_id, event_type, subject, aggregate_id, aggregate_version, payload::text
		FROM outbox ORDER BY position`)
	require.NoError(t, err)
	defer rows.Close()
	sequence := uint64(0)
	for rows.Next() {
		var position, version int64
		var id, kind, subject, aggregate, payload string
		require.NoError(t, rows.Scan(&position, &id, &kind, &subject, &aggregate, &version, &payload))
		message, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		require.NoError(t, err, "position %d is not in the stream", position)
		meta, err := message.Metadata()
		require.NoError(t, err)
		if kind != "test.v1" { // events that a test wrote by plain SQL have other fields
			require.NoError(t, contract.CheckMessage(message.Subject(), message.Headers(), message.Data()))
		}
		sequence++
		require.Equal(t, sequence, meta.Sequence.Stream)
		require.Equal(t,
			[]string{strconv.FormatInt(position, 10), id, kind, subject, aggregate, strconv.FormatInt(version, 10), payload},
			[]string{
				message.Headers().Get("Outbox-Position"), message.Headers().Get("ce-id"), message.Headers().Get("ce-type"), message.Subject(),
				message.Headers().Get("ce-subject"), message.Headers().Get("Outbox-Aggregate-Version"), string(message.Data()),
			})
	}
	require.NoError(t, rows.Err())
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	require.Equal(t, sequence, s.CachedInfo().State.LastSeq, "the stream holds something that is not in the log")
}

// connect connects to the broker as a separate client. done closes the connection.
func connect(t *testing.T, broker string) (js jetstream.JetStream, done func()) {
	t.Helper()
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	js, err = jetstream.New(nc)
	require.NoError(t, err)
	return js, nc.Close
}

func placeMany(t *testing.T, api string, n int) {
	t.Helper()
	for range n {
		_, err := infra.Place(api)
		require.NoError(t, err)
	}
}

// published returns the sequence of the stream's last message, or 0 if there is no stream yet.
func published(t *testing.T, broker string) uint64 {
	t.Helper()
	js, done := connect(t, broker)
	defer done()
	stream, err := js.Stream(t.Context(), "ORDERS")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	require.NoError(t, err)
	return stream.CachedInfo().State.LastSeq
}
