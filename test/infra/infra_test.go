package infra_test

import (
	"database/sql"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m) }

func connect(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// TestDatabaseIsMigratedAndOfTheTestsOwn checks that each test gets a migrated database of its own.
func TestDatabaseIsMigratedAndOfTheTestsOwn(t *testing.T) {
	first, second := infra.Database(t), infra.Database(t)
	require.NotEqual(t, first, second)

	_, err := connect(t, first).ExecContext(t.Context(), "INSERT INTO leases (name, token, expires_at) VALUES ('x', 1, now())")
	require.NoError(t, err)
	var rows int
	require.NoError(t, connect(t, second).QueryRowContext(t.Context(), "SELECT count(*) FROM leases").Scan(&rows))
	require.Zero(t, rows)
}

// TestDatabaseIsDroppedWithConnectionsOpen checks that a database is dropped although connections are open.
func TestDatabaseIsDroppedWithConnectionsOpen(t *testing.T) {
	var url string
	t.Run("user", func(t *testing.T) {
		url = infra.Database(t)
		db, err := sql.Open("pgx", url)
		require.NoError(t, err)
		require.NoError(t, db.PingContext(t.Context()))
	})
	require.ErrorContains(t, connect(t, url).PingContext(t.Context()), "does not exist")
}

// TestPostgresComesBackWithItsData checks that a stopped Postgres starts again with its data.
func TestPostgresComesBackWithItsData(t *testing.T) {
	server := infra.Postgres(t)
	db := connect(t, server.URL)
	for i, end := range []func(){server.Stop, server.Kill} {
		_, err := db.ExecContext(t.Context(), "INSERT INTO leases (name, token, expires_at) VALUES ($1, 1, now())", strconv.Itoa(i))
		require.NoError(t, err)
		end()
		require.Error(t, db.PingContext(t.Context()))
		server.Start()
		var rows int
		require.NoError(t, connect(t, server.URL).QueryRowContext(t.Context(), "SELECT count(*) FROM leases").Scan(&rows))
		require.Equal(t, i+1, rows)
	}
}

// TestNATSComesBackWithItsStreams checks that a stopped NATS starts again with its streams.
func TestNATSComesBackWithItsStreams(t *testing.T) {
	server := infra.NATS(t)
	reconnected := make(chan struct{}, 1)
	connection, err := nats.Connect(server.URL, nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }))
	require.NoError(t, err)
	defer connection.Close()
	js, err := jetstream.New(connection)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", []byte("kept"))
	require.NoError(t, err)

	server.Stop()
	server.Start()
	select {
	case <-reconnected:
	case <-time.After(10 * time.Second):
		t.Fatal("the client did not find the server again")
	}
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.LastSeq)
}

// TestBrokerIsEmptyAndOfOneTestAtATime checks that tests that share a server see neither each other nor each other's streams.
func TestBrokerIsEmptyAndOfOneTestAtATime(t *testing.T) {
	server := infra.NATS(t)
	t.Setenv("OUTBOXIE_TEST_NATS_URL", server.URL)
	var using atomic.Int32
	t.Run("all", func(t *testing.T) {
		for _, name := range []string{"first", "second", "third"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				require.Equal(t, server.URL, infra.Broker(t))
				require.EqualValues(t, 1, using.Add(1))
				defer using.Add(-1)
				connection, err := nats.Connect(server.URL)
				require.NoError(t, err)
				defer connection.Close()
				js, err := jetstream.New(connection)
				require.NoError(t, err)
				_, err = js.Stream(t.Context(), "S")
				require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
				_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
				require.NoError(t, err)
			})
		}
	})
}
