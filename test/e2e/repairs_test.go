package e2e_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// damagedStream is an instance that has published five orders, with its servers. A test damages the stream. kept is the broker's store after
// three orders.
type damagedStream struct {
	t           *testing.T
	db          *sql.DB
	broker      *infra.NATSServer
	store, kept string
	environment []string
	instance    *infra.Process
}

func newDamagedStream(t *testing.T) *damagedStream {
	t.Helper()
	d := &damagedStream{t: t}
	database := infra.Database(t)
	d.broker = infra.NATS(t, func(o *embedded.NATSOptions) { d.store = o.StoreDir })
	d.environment = []string{"DATABASE_URL=" + database, "NATS_URL=" + d.broker.URL, "OUTBOX_LEASE_TTL=1s"}
	var err error
	d.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.db.Close() })
	d.instance = infra.Serve(t, "app", d.environment)
	d.instance.WaitFor("created the stream")
	d.publish(3, 3)
	d.kept = keepStore(t, d.broker, d.store)
	d.publish(2, 5)
	return d
}

// publish places orders, and waits until the stream has all events and the cursor has passed them.
func (d *damagedStream) publish(orders, all int) {
	d.t.Helper()
	placeMany(d.t, d.instance.API(), orders)
	require.Eventually(d.t, func() bool { return count(d.t, d.db, "SELECT coalesce(max(position), 0) FROM outbox_cursor") == all }, waitTimeout, 10*time.Millisecond)
	require.EqualValues(d.t, all, published(d.t, d.broker.URL))
}

// keepStore stops a broker, copies its folder, and starts the broker again.
func keepStore(t *testing.T, broker *infra.NATSServer, store string) (kept string) {
	t.Helper()
	kept = filepath.Join(t.TempDir(), "store")
	broker.Stop()
	require.NoError(t, os.CopyFS(kept, os.DirFS(store)))
	broker.Start()
	return kept
}

// rollBack brings an old copy of the broker's folder back.
func rollBack(t *testing.T, broker *infra.NATSServer, store, kept string) {
	t.Helper()
	broker.Stop()
	store, kept = filepath.Join(store, "jetstream"), filepath.Join(kept, "jetstream")
	require.NoError(t, os.RemoveAll(store))
	require.NoError(t, os.CopyFS(store, os.DirFS(kept)))
	broker.Start()
}

func (d *damagedStream) stream(use func(js jetstream.JetStream, stream jetstream.Stream)) {
	d.t.Helper()
	js, done := connect(d.t, d.broker.URL)
	defer done()
	stream, err := js.Stream(d.t.Context(), "ORDERS")
	require.NoError(d.t, err)
	use(js, stream)
}

// stray publishes messages of another program.
func (d *damagedStream) stray(messages int) {
	d.t.Helper()
	d.stream(func(js jetstream.JetStream, _ jetstream.Stream) {
		for range messages {
			_, err := js.Publish(d.t.Context(), "orders.stray", []byte("hello"))
			require.NoError(d.t, err)
		}
	})
}

// appended returns how many messages were ever appended to the stream.
func (d *damagedStream) appended() (messages uint64) {
	d.t.Helper()
	d.stream(func(_ jetstream.JetStream, stream jetstream.Stream) {
		state := stream.CachedInfo().State
		messages = state.LastSeq + 1 - state.FirstSeq
	})
	return messages
}

func (d *damagedStream) sql(statement string) {
	d.t.Helper()
	_, err := d.db.Exec(statement)
	require.NoError(d.t, err)
}

// damages are the damages for which the relay halts. cause does the damage while the instance is frozen. plan is a part of what `outbox adopt`
// prints. holds is how many messages the stream has after the adoption and one more order, with the control message of the adoption and the
// messages of the damage.
var damages = map[string]struct {
	halt  relay.HaltReason
	cause func(d *damagedStream)
	plan  string
	holds uint64 // counted from the stream's first sequence
}{
	"the stream is deleted": {
		relay.HaltStreamMissing, func(d *damagedStream) {
			d.stream(func(js jetstream.JetStream, _ jetstream.Stream) {
				require.NoError(d.t, js.DeleteStream(d.t.Context(), "ORDERS"))
			})
		}, "publish 5 events of the log", 1 + 5 + 1,
	},
	"the stream is created again": {
		relay.HaltStreamReplaced, func(d *damagedStream) {
			d.stream(func(js jetstream.JetStream, old jetstream.Stream) {
				require.NoError(d.t, js.DeleteStream(d.t.Context(), "ORDERS"))
				_, err := js.CreateStream(d.t.Context(), old.CachedInfo().Config)
				require.NoError(d.t, err)
			})
		}, "publish 5 events of the log", 1 + 5 + 1,
	},
	"the last message is deleted": {
		relay.HaltTailGone, func(d *damagedStream) {
			d.stray(1)
			d.stream(func(_ jetstream.JetStream, stream jetstream.Stream) {
				require.NoError(d.t, stream.DeleteMsg(d.t.Context(), 6))
			})
		}, "publish 0 events of the log", 5 + 1 + 1 + 1,
	},
	"an old message is copied": {
		relay.HaltTailCopied, (*damagedStream).copyOld, "publish 0 events of the log", 5 + 1 + 1 + 1,
	},
	"the stream goes back, and somebody else writes": {
		relay.HaltTailForeign, func(d *damagedStream) {
			rollBack(d.t, d.broker, d.store, d.kept)
			d.stray(2)
		}, "publish 2 events of the log", 5 + 1 + 2 + 1,
	},
	"what the stream lost is purged": {
		relay.HaltLogPurged, func(d *damagedStream) {
			rollBack(d.t, d.broker, d.store, d.kept)
			d.sql("DELETE FROM outbox")
			d.sql("UPDATE outbox_cursor SET purged_to = 5")
		}, "the log no longer has them", 3 + 1 + 1,
	},
	"the sequence starts again": {
		relay.HaltSequenceBehind, func(d *damagedStream) {
			d.sql("DELETE FROM outbox")
			d.sql("UPDATE outbox_cursor SET purged_to = 5")
			d.sql("ALTER TABLE outbox ALTER COLUMN position RESTART")
		}, "set the sequence of outbox.position above 5", 5 + 1 + 1,
	},
	"rows are deleted": {
		relay.HaltHistoryLost, func(d *damagedStream) { d.sql("DELETE FROM outbox WHERE position >= 4") }, "go on after position 3", 5 + 1 + 1,
	},
}

func (d *damagedStream) copyOld() {
	d.stream(func(js jetstream.JetStream, stream jetstream.Stream) {
		old, err := stream.GetMsg(d.t.Context(), 2)
		require.NoError(d.t, err)
		for name := range old.Header { // these headers are instructions for the broker
			if strings.HasPrefix(name, "Nats-") {
				old.Header.Del(name)
			}
		}
		_, err = js.PublishMsg(d.t.Context(), &nats.Msg{Subject: old.Subject, Header: old.Header, Data: old.Data})
		require.NoError(d.t, err)
	})
}

// TestRepairs checks that the operator's commands report and repair each halt on real servers: an adoption shows its plan, changes nothing
// without --yes, and then the relay continues.
func TestRepairs(t *testing.T) {
	reasons := []relay.HaltReason{relay.HaltStreamUnfit} // TestUnfitStreamIsRepaired
	for _, damage := range damages {
		reasons = append(reasons, damage.halt)
	}
	require.ElementsMatch(t, relay.HaltReasons(), reasons)
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			d := newDamagedStream(t)
			said, err := infra.Outboxie(t, d.environment, "outbox", "adopt")
			require.Error(t, err)
			require.Contains(t, said, "not halted")
			d.instance.Signal(syscall.SIGSTOP)
			damage.cause(d)
			d.instance.Signal(syscall.SIGCONT)
			d.repair(string(damage.halt), damage.plan)
			placeMany(t, d.instance.API(), 1)
			require.Eventually(t, func() bool { return d.appended() == damage.holds }, waitTimeout, 10*time.Millisecond,
				"there should be %d messages", damage.holds)
			if remade := damage.halt == relay.HaltStreamMissing || damage.halt == relay.HaltStreamReplaced; remade {
				require.Greater(t, published(t, d.broker.URL), uint64(1_000_000_000), "no sequence of the former stream comes again")
			}
			said, err = infra.Outboxie(t, d.environment, "outbox", "status")
			require.NoError(t, err)
			require.Contains(t, said, "relaying")
		})
	}
}

// repair runs the repair that outbox status names.
func (d *damagedStream) repair(halt, plan string) {
	t := d.t
	require.Eventually(t, func() bool {
		said, err := infra.Outboxie(t, d.environment, "outbox", "status")
		return err == nil && strings.Contains(said, halt) && strings.Contains(said, "outboxie outbox adopt")
	}, waitTimeout, 50*time.Millisecond)
	require.Contains(t, d.instance.String(), halt)
	said, err := infra.Outboxie(t, d.environment, "outbox", "adopt")
	require.Error(t, err)
	for _, says := range []string{halt, plan, "repeat the command with --yes"} {
		require.Contains(t, said, says)
	}
	time.Sleep(100 * time.Millisecond)
	said, err = infra.Outboxie(t, d.environment, "outbox", "status")
	require.NoError(t, err)
	require.Contains(t, said, halt, "nothing was done")
	said, err = infra.Outboxie(t, d.environment, "outbox", "adopt", "--yes")
	require.NoError(t, err, said)
}
