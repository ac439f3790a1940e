// Package damage gives tests a service of their own whose stream or log they damage, and the damages for which the relay halts. A test makes a
// Service, does a Kind of damage to it, and then tries a repair: by the commands (test/e2e), or in a browser (test/pages).
package damage

import (
	"database/sql"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// waitTimeout bounds every wait.
const waitTimeout = 30 * time.Second

// Service is an instance that has published five orders, with its servers.
type Service struct {
	T           *testing.T
	DB          *sql.DB
	Broker      *infra.NATSServer
	Store, Kept string // folder of the broker, and its copy after three orders
	Environment []string
	Instance    *infra.Process
}

// New starts a service for a test. It ends with the test.
func New(t *testing.T) *Service {
	t.Helper()
	s := &Service{T: t}
	database := infra.Database(t)
	s.Broker = infra.NATS(t, func(o *embedded.NATSOptions) { s.Store = o.StoreDir })
	s.Environment = []string{"DATABASE_URL=" + database, "NATS_URL=" + s.Broker.URL, "OUTBOX_LEASE_TTL=1s"}
	var err error
	s.DB, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.DB.Close() })
	s.Instance = infra.Serve(t, "app", s.Environment)
	s.Instance.WaitFor("created the stream")
	s.publish(3, 3)
	s.Kept = KeepStore(t, s.Broker, s.Store)
	s.publish(2, 5)
	return s
}

// publish places orders, and waits until the stream has all events and the cursor has passed them.
func (s *Service) publish(orders, all int) {
	s.T.Helper()
	for range orders {
		_, err := infra.Place(s.Instance.API())
		require.NoError(s.T, err)
	}
	require.Eventually(s.T, func() bool {
		var position int
		require.NoError(s.T, s.DB.QueryRow("SELECT coalesce(max(position), 0) FROM outbox_cursor").Scan(&position))
		return position == all
	}, waitTimeout, 10*time.Millisecond)
	s.UseStream(func(_ jetstream.JetStream, stream jetstream.Stream) {
		require.EqualValues(s.T, all, stream.CachedInfo().State.LastSeq)
	})
}

// KeepStore stops a broker, copies its folder, and starts the broker again.
func KeepStore(t *testing.T, broker *infra.NATSServer, store string) (kept string) {
	t.Helper()
	kept = filepath.Join(t.TempDir(), "store")
	broker.Stop()
	require.NoError(t, os.CopyFS(kept, os.DirFS(store)))
	broker.Start()
	return kept
}

// RollBack brings an old copy of the broker's folder back.
func RollBack(t *testing.T, broker *infra.NATSServer, store, kept string) {
	t.Helper()
	broker.Stop()
	store, kept = filepath.Join(store, "jetstream"), filepath.Join(kept, "jetstream")
	require.NoError(t, os.RemoveAll(store))
	require.NoError(t, os.CopyFS(store, os.DirFS(kept)))
	broker.Start()
}

// UseStream calls use with the stream, over a connection that ends afterwards.
func (s *Service) UseStream(use func(js jetstream.JetStream, stream jetstream.Stream)) {
	s.T.Helper()
	nc, err := nats.Connect(s.Broker.URL)
	require.NoError(s.T, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(s.T, err)
	stream, err := js.Stream(s.T.Context(), "ORDERS")
	require.NoError(s.T, err)
	use(js, stream)
}

// SetStream changes the settings of the stream.
func (s *Service) SetStream(change func(c *jetstream.StreamConfig)) {
	s.T.Helper()
	s.UseStream(func(js jetstream.JetStream, stream jetstream.Stream) {
		config := stream.CachedInfo().Config
		change(&config)
		_, err := js.UpdateStream(s.T.Context(), config)
		require.NoError(s.T, err)
	})
}

// Appended returns how many messages were ever appended to the stream.
func (s *Service) Appended() (messages uint64) {
	s.T.Helper()
	s.UseStream(func(_ jetstream.JetStream, stream jetstream.Stream) {
		state := stream.CachedInfo().State
		messages = state.LastSeq + 1 - state.FirstSeq
	})
	return messages
}

// SQL runs a statement.
func (s *Service) SQL(statement string) {
	s.T.Helper()
	_, err := s.DB.Exec(statement)
	require.NoError(s.T, err)
}

// Do does a damage while the instance is frozen.
func (s *Service) Do(kind Kind) {
	s.T.Helper()
	s.Instance.Signal(syscall.SIGSTOP)
	kind.Cause(s)
	s.Instance.Signal(syscall.SIGCONT)
}
