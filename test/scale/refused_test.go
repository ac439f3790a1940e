//go:build scale

package scale_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// requireAllTables checks that the rights of each role are decided for each table, so that a new table is not forgotten.
func requireAllTables(t *testing.T, p *privileged) {
	t.Helper()
	text, err := os.ReadFile("../../docker/roles.sql")
	require.NoError(t, err)
	for _, table := range allTables(t, p) {
		require.Contains(t, string(text), table)
	}
}

func allTables(t *testing.T, p *privileged) []string {
	t.Helper()
	rows, err := p.admin.Query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
	require.NoError(t, err)
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var table string
		require.NoError(t, rows.Scan(&table))
		tables = append(tables, table)
	}
	require.NoError(t, rows.Err())
	require.Greater(t, len(tables), 12)
	return tables
}

func requireRefusedByPostgres(t *testing.T, p *privileged) {
	t.Helper()
	for role, statements := range map[string][]string{
		migrator: {"GRANT SELECT ON pg_authid TO outboxie_writer"},
		writer: {
			"UPDATE outboxie_engine_migrations SET is_applied = false", "DELETE FROM outboxie_engine_migration_lock",
			"CREATE TEMP TABLE outbox (LIKE outbox)", // the session would write its events into this table
			"UPDATE outbox SET payload = '{}'", "DELETE FROM outbox", "TRUNCATE outbox", "DELETE FROM orders",
			"DELETE FROM customer_keys", "UPDATE customer_keys SET key = NULL",
			"UPDATE leases SET token = 9", "UPDATE outbox_cursor SET position = 0", "DELETE FROM outbox_parked",
			"UPDATE outbox_parked SET state = 'redrive'", "INSERT INTO inbox SELECT FROM inbox", "SELECT FROM dead_letters",
			"SELECT FROM subscriber_lanes", "SELECT FROM subscribers", "SELECT FROM subscriber_types", "SELECT FROM customer_totals", "CREATE TABLE more ()", "ALTER TABLE outbox ALTER COLUMN position SET CACHE 10",
		},
		relayer: {
			"UPDATE outboxie_engine_migrations SET is_applied = false", "DELETE FROM outboxie_engine_migration_lock",
			"INSERT INTO outbox DEFAULT VALUES", "UPDATE outbox SET payload = '{}'", "UPDATE outbox SET event_id = gen_random_uuid()",
			"TRUNCATE outbox", "SELECT FROM orders", "SELECT FROM customer_keys", "SELECT FROM request_keys", "SELECT FROM idempotency_keys", "SELECT event_id FROM inbox",
			"DELETE FROM inbox", "SELECT payload FROM dead_letters", "UPDATE dead_letters SET state = 'discarded'", "DELETE FROM leases",
			"UPDATE subscriber_lanes SET sequence = 0", "UPDATE subscribers SET handler = NULL", "DELETE FROM subscriber_types", "SELECT FROM subscriber_marks",
			"DELETE FROM subscriber_copies", "DELETE FROM outbox_cursor", "SELECT FROM customer_totals", "CREATE TABLE more ()",
		},
		subscriber: {
			"UPDATE outboxie_engine_migrations SET is_applied = false", "DELETE FROM outboxie_engine_migration_lock",
			"UPDATE outbox SET payload = '{}'", "INSERT INTO outbox DEFAULT VALUES",
			"DELETE FROM outbox", "SELECT FROM orders", "SELECT customer_id FROM customer_keys", "DELETE FROM customer_keys", "UPDATE leases SET token = 9", "SELECT halt_reason FROM outbox_cursor",
			"UPDATE outbox_cursor SET position = 0", "SELECT reason FROM outbox_parked", "DELETE FROM outbox_parked",
			"DELETE FROM customer_totals", "CREATE TABLE more ()",
		},
		eraser: {
			"SELECT key FROM customer_keys", "SELECT amount_minor FROM orders", "SELECT payment_reference FROM orders", "UPDATE orders SET version = 9",
			"INSERT INTO orders DEFAULT VALUES", "DELETE FROM orders", "UPDATE outbox SET payload = '{}'", "DELETE FROM outbox", "DELETE FROM inbox",
			"DELETE FROM dead_letters", "DELETE FROM customer_totals", "UPDATE customer_totals SET amount = 0", "UPDATE subscriber_lanes SET sequence = 0",
			"UPDATE leases SET token = 9", "CREATE TABLE more ()",
		},
		emitter: {
			"DELETE FROM outbox", "UPDATE outbox SET payload = '{}'", "TRUNCATE outbox", "SELECT FROM orders",
			"UPDATE leases SET token = 9", "UPDATE outbox_cursor SET position = 0", "SELECT setval('outbox_position_seq', 1)",
			"DELETE FROM outbox_parked", "DELETE FROM customer_totals", "CREATE TABLE more ()",
		},
		operator: {
			"SELECT FROM outboxie_engine_migrations", "UPDATE outboxie_engine_migrations SET is_applied = false",
			"UPDATE outboxie_service_migrations SET is_applied = false", "DELETE FROM outboxie_engine_migration_lock",
			"DELETE FROM outboxie_service_migration_lock", "SELECT FROM orders", "SELECT FROM customer_keys", "UPDATE orders SET status = 'paid'", "SELECT FROM request_keys",
			"DELETE FROM request_keys", "SELECT FROM idempotency_keys", "INSERT INTO idempotency_keys DEFAULT VALUES", "SELECT FROM customer_totals",
			"UPDATE outbox SET payload = '{}'", "UPDATE outbox SET recorded_at = now()", "TRUNCATE outbox", "UPDATE leases SET token = 9",
			"INSERT INTO leases DEFAULT VALUES", "DELETE FROM leases", "DELETE FROM outbox_cursor", "DELETE FROM outbox_halts",
			"INSERT INTO outbox_halts DEFAULT VALUES", "DELETE FROM outbox_parked", "INSERT INTO outbox_parked DEFAULT VALUES",
			"UPDATE outbox_parked SET reason = ''", "UPDATE inbox SET applied_at = now()", "INSERT INTO dead_letters DEFAULT VALUES",
			"UPDATE subscriber_marks SET sequence = 0", "INSERT INTO subscriber_types DEFAULT VALUES", "INSERT INTO subscriber_copies DEFAULT VALUES",
			"CREATE TABLE more ()",
		},
	} {
		db := open(t, p.database(role))
		for _, statement := range slices.Concat(statements, refusedToAll) {
			_, err := db.Exec(statement)
			require.ErrorContains(t, err, "42501", "%s: %s", role, statement) // insufficient privilege
		}
	}
}

// refusedToAll are statements that only a superuser may run.
var refusedToAll = []string{
	"CREATE TEMP TABLE more ()", "SELECT 1 AS one INTO TEMP more", "SELECT lo_create(0)", "SELECT lo_creat(-1)", "SELECT lo_from_bytea(0, 'x')",
	"SELECT lo_put(1, 0, 'x')", "SELECT lo_open(1, 131072)", "SELECT lowrite(0, 'x')", "SELECT lo_import('/etc/passwd')", "CREATE SCHEMA more",
	"COPY (SELECT 1) TO PROGRAM 'true'", "SELECT pg_read_file('/etc/passwd')", "CREATE ROLE more", "CREATE DATABASE more", "ALTER SYSTEM SET fsync = off",
}

// requireStrangerRefused checks that a role outside docker/roles.sql may not connect. If it gets the right to connect, it sees and creates
// nothing.
func requireStrangerRefused(t *testing.T, p *privileged) {
	t.Helper()
	const stranger = "outboxie_stranger"
	_, err := p.admin.Exec("CREATE ROLE " + stranger + " LOGIN PASSWORD 'secret'")
	require.NoError(t, err)
	address := *p.direct
	address.User = url.UserPassword(stranger, "secret")
	_, err = open(t, address.String()).Exec("SELECT 1")
	require.ErrorContains(t, err, "permission denied for database")

	_, err = p.admin.Exec("GRANT CONNECT ON DATABASE shop TO " + stranger)
	require.NoError(t, err)
	db := open(t, address.String())
	for _, statement := range refusedToAll {
		_, err := db.Exec(statement)
		require.ErrorContains(t, err, "42501", "%s: %s", stranger, statement)
	}
	for _, table := range allTables(t, p) {
		for _, statement := range []string{"SELECT FROM public." + table, "DELETE FROM public." + table, "CREATE TABLE public.more ()"} {
			_, err := db.Exec(statement)
			require.ErrorContains(t, err, "42501", "%s: %s", stranger, statement)
		}
	}
}

func requireRefusedByNATS(t *testing.T, p *privileged) {
	t.Helper()
	for user, subjects := range map[string][]string{
		"api":        {"orders.created", "outboxie.ORDERS.notices", "outboxie.ORDERS.leader.1", "$JS.API.STREAM.PURGE.ORDERS", "$JS.API.STREAM.DELETE.ORDERS"},
		"subscriber": refusedToSubscribers,
		"emitter":    slices.DeleteFunc(slices.Clone(refusedToSubscribers), func(subject string) bool { return subject == "outboxie.ORDERS.wake" }),
		"operator": {
			"orders.created", "$JS.API.STREAM.DELETE.ORDERS", "$JS.API.STREAM.MSG.DELETE.ORDERS", "$JS.API.STREAM.PURGE.OTHER",
			"$JS.API.CONSUMER.CREATE.ORDERS.emails", "outboxie.ORDERS.leader.7",
		},
		"relay": {
			"$JS.API.STREAM.DELETE.ORDERS", "$JS.API.STREAM.PURGE.ORDERS", "$JS.API.STREAM.MSG.DELETE.ORDERS", "$JS.API.STREAM.CREATE.OTHER",
			"$JS.API.CONSUMER.CREATE.ORDERS.emails", "$JS.ACK.ORDERS.emails.1.1.1.1.1", "vouchers.created", "_INBOX.somebody.else",
			"$JS.API.DIRECT.GET.ORDERS.orders.created", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.emails",
		},
	} {
		for _, subject := range subjects {
			nc, err := nats.Connect(p.nats(user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
			require.NoError(t, err)
			require.NoError(t, nc.Publish(subject, nil))
			require.NoError(t, nc.Flush())
			require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation, "%s: %s", user, subject)
			nc.Close()
		}
	}
	for _, user := range []string{"api", "subscriber", "emitter"} { // otherwise they could make a dead leader seem alive
		nc, err := nats.Connect(p.nats(user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		require.NoError(t, err)
		_, err = nc.SubscribeSync("outboxie.ORDERS.leader.1")
		require.NoError(t, err)
		require.NoError(t, nc.Flush())
		require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation, user)
		nc.Close()
	}
	users := []string{"relay", "operator", "api", "subscriber", "emitter"}
	for _, user := range users { // only the user who asked gets answers and deliveries
		for _, other := range append(users, "*", "stranger") {
			if other != user {
				requireDeaf(t, p.nats(user), "_INBOX."+other+".>")
			}
		}
		requireDeaf(t, p.nats(user), "_INBOX.>")
		requireDeaf(t, p.nats(user), "orders.>")
	}
	for _, address := range []string{"nats://" + p.broker, "nats://relay:wrong@" + p.broker} {
		_, err := nats.Connect(address)
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}
	requireAnswersStayOut(t, p)
	requireFormerConsumerStays(t, p)
}

// refusedToSubscribers are subjects that a subscriber must not publish to: they would change something, take events from others, show what
// others do, or wake the relays.
var refusedToSubscribers = []string{
	"orders.created", "outboxie.ORDERS.notices", "outboxie.ORDERS.wake", "outboxie.ORDERS.stored", "outboxie.ORDERS.leader.1",
	"$JS.API.INFO", "$JS.API.ACCOUNT.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.ORDERS", "$JS.API.STREAM.CREATE.COPY",
	"$JS.API.STREAM.UPDATE.ORDERS", "$JS.API.STREAM.PURGE.ORDERS", "$JS.API.STREAM.DELETE.ORDERS", "$JS.API.STREAM.MSG.DELETE.ORDERS",
	"$JS.API.STREAM.SNAPSHOT.ORDERS", "$JS.API.STREAM.RESTORE.ORDERS", "$JS.API.STREAM.LEADER.STEPDOWN.ORDERS", "$JS.API.STREAM.PEER.REMOVE.ORDERS",
	"$JS.API.STREAM.INFO.OTHER", "$JS.API.STREAM.MSG.GET.OTHER", "$JS.API.DIRECT.GET.OTHER", "$JS.API.DIRECT.GET.ORDERS.orders.created",
	"$JS.API.CONSUMER.NAMES.ORDERS", "$JS.API.CONSUMER.LIST.ORDERS", "$JS.API.CONSUMER.INFO.OTHER.emails",
	"$JS.API.CONSUMER.CREATE.ORDERS", "$JS.API.CONSUMER.CREATE.ORDERS.emails", "$JS.API.CONSUMER.CREATE.ORDERS.emails.orders.>",
	"$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.emails", "$JS.API.CONSUMER.DELETE.ORDERS.emails", "$JS.API.CONSUMER.PAUSE.ORDERS.emails",
	"$JS.API.CONSUMER.UNPIN.ORDERS.emails", "$JS.API.CONSUMER.LEADER.STEPDOWN.ORDERS.emails", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.emails",
	"$JS.ACK.ORDERS.emails.1.1.1.1.1", "$JS.FC.ORDERS.emails.1", "outboxie.api.CONSUMER.CREATE.ORDERS.emails", "outboxie.api.CONSUMER.MSG.NEXT.ORDERS.emails",
	"_INBOX.relay.1", "_INBOX.subscriber.1",
}

// requireAnswersStayOut sends requests whose answers would go to the stream's subjects, and checks that the stream stores none. NATS does not
// check rights for the reply subject of a request, so only separate accounts keep answers out of the stream.
func requireAnswersStayOut(t *testing.T, p *privileged) {
	t.Helper()
	stream, err := jetStream(t, p.nats("admin")).Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	last := func() uint64 {
		info, err := stream.Info(t.Context())
		require.NoError(t, err)
		return info.State.LastSeq
	}
	before := last()
	for _, request := range []struct{ user, subject, body string }{
		{"subscriber", "$JS.API.DIRECT.GET.ORDERS", `{"seq":1,"batch":100}`},
		{"subscriber", "$JS.API.DIRECT.GET.ORDERS", `{"seq":1,"batch":100,"next_by_subj":"orders.>","no_hdr":true}`},
		{"subscriber", "$JS.API.DIRECT.GET.ORDERS", `{"multi_last":["orders.>"]}`},
		{"subscriber", "$JS.API.STREAM.MSG.GET.ORDERS", fmt.Sprintf(`{"seq":%d}`, before)},
		{"subscriber", "$JS.API.STREAM.INFO.ORDERS", ""},
		{"subscriber", "$JS.API.CONSUMER.INFO.ORDERS.emails", ""},
		{"api", "$JS.API.STREAM.INFO.ORDERS", ""},
		{"api", "$JS.API.STREAM.MSG.GET.ORDERS", fmt.Sprintf(`{"seq":%d}`, before)},
		{"api", "outboxie.ORDERS.wake", ""},
		{"emitter", "outboxie.ORDERS.wake", ""},
	} {
		nc := connected(t, p.nats(request.user))
		for _, reply := range []string{"orders.created", "outboxie.ORDERS.notices", "outboxie.ORDERS.wake"} {
			require.NoError(t, nc.PublishRequest(request.subject, reply, []byte(request.body)))
		}
		require.NoError(t, nc.Flush())
		require.NoError(t, nc.LastError())
	}
	require.Never(t, func() bool { return last() != before }, time.Second, 50*time.Millisecond, "an answer was stored in the stream")
}

// requireFormerConsumerStays checks that a subscriber may not do what former permissions allowed: take events from the consumer of another,
// change its filter, and have events sent to the subject that wakes the relays.
func requireFormerConsumerStays(t *testing.T, p *privileged) {
	t.Helper()
	js := jetStream(t, p.nats("admin"))
	_, err := js.CreateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{
		Durable: "former", FilterSubject: "orders.>", AckPolicy: jetstream.AckExplicitPolicy,
	})
	require.NoError(t, err)
	state := func() *jetstream.ConsumerInfo {
		found, err := js.Consumer(t.Context(), "ORDERS", "former")
		require.NoError(t, err)
		info := found.CachedInfo()
		info.TimeStamp = time.Time{}
		return info
	}
	before := state()
	notifications, err := connected(t, p.nats("relay")).SubscribeSync("outboxie.ORDERS.wake")
	require.NoError(t, err)
	nc := connected(t, p.nats("subscriber"))
	push := `{"stream_name":"ORDERS","config":{"deliver_subject":"outboxie.ORDERS.wake","ack_policy":"none","deliver_policy":"all"}}`
	for subject, body := range map[string]string{
		"CONSUMER.MSG.NEXT.ORDERS.former": `{"batch":100,"no_wait":true}`,
		"CONSUMER.CREATE.ORDERS.former": `{"stream_name":"ORDERS","action":"update","config":{"durable_name":"former","name":"former",` +
			`"filter_subject":"orders.nothing","ack_policy":"explicit"}}`,
		"CONSUMER.CREATE.ORDERS": push, "CONSUMER.CREATE.ORDERS.pushed": push, "CONSUMER.DURABLE.CREATE.ORDERS.pushed": push,
		"CONSUMER.PAUSE.ORDERS.former": `{"pause_until":"2100-01-01T00:00:00Z"}`, "CONSUMER.DELETE.ORDERS.former": "",
	} {
		for _, prefix := range []string{"$JS.API.", "outboxie.api."} {
			require.NoError(t, nc.PublishRequest(prefix+subject, "_INBOX.subscriber.x", []byte(body)))
		}
	}
	require.NoError(t, nc.Flush())
	_, err = notifications.NextMsg(time.Second)
	require.ErrorIs(t, err, nats.ErrTimeout)
	require.Equal(t, before, state())
	_, err = js.Consumer(t.Context(), "ORDERS", "pushed")
	require.ErrorIs(t, err, jetstream.ErrConsumerNotFound)
	require.NoError(t, js.DeleteConsumer(t.Context(), "ORDERS", "former"))
}

func connected(t *testing.T, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, options...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// requireDeaf checks that a user may not subscribe to a subject.
func requireDeaf(t *testing.T, url, subject string) {
	t.Helper()
	nc, err := nats.Connect(url, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.SubscribeSync(subject)
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation, "%s: %s", url, subject)
}

// TestBlindRelay checks that a relay that cannot see all rows does not start. A relay that cannot see the locks of other roles fails at the
// first gap instead of skipping the gap.
func TestBlindRelay(t *testing.T) {
	t.Parallel()
	p := newPrivileged(t)
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	_, err := p.admin.Exec("ALTER TABLE outbox ENABLE ROW LEVEL SECURITY")
	require.NoError(t, err)
	require.Contains(t, outboxie(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay"), 2, "serve"), "row security is active")
	_, err = p.admin.Exec("ALTER TABLE outbox DISABLE ROW LEVEL SECURITY")
	require.NoError(t, err)
	_, err = p.admin.Exec("DROP INDEX outbox_event_id")
	require.NoError(t, err)
	for role, command := range map[string][]string{
		relayer: {"serve", "--roles", "relay"}, writer: {"serve", "--roles", "api"}, subscriber: {"subscribe", "--id", "emails"},
		emitter: {"subscribe", "--id", "emails"},
	} {
		require.Contains(t, outboxie(t, p.as(role, "relay"), 2, command...), "outbox has no unique index on (event_id)", role)
	}
	_, err = p.admin.Exec("CREATE UNIQUE INDEX outbox_event_id ON outbox (event_id)")
	require.NoError(t, err)
	_, err = p.admin.Exec("REVOKE SELECT ON pg_locks FROM PUBLIC")
	require.NoError(t, err)
	relay := infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0"), "serve")
	relay.WaitFor("became leader")
	db := open(t, p.database(writer))
	early, err := db.Begin()
	require.NoError(t, err)
	defer early.Rollback() //nolint:errcheck // after a commit it does nothing
	_, err = early.Exec(appendStatement, uuid.NewString(), 1, "")
	require.NoError(t, err)
	_, err = db.Exec(appendStatement, uuid.NewString(), 1, "")
	require.NoError(t, err)
	relay.WaitFor("permission denied for view pg_locks")
	js := jetStream(t, p.nats("admin"))
	last := func() uint64 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := js.Stream(ctx, "ORDERS")
		require.NoError(t, err)
		return stream.CachedInfo().State.LastSeq
	}
	require.Zero(t, last())
	require.NoError(t, early.Commit())
	require.Eventually(t, func() bool { return last() == 2 }, waitTimeout, 50*time.Millisecond) // there is no gap any more
}

// TestSubscriberMayNotLook checks that a subscriber without the right to look for the consumer of a former version logs that once, and
// begins with the first event.
func TestSubscriberMayNotLook(t *testing.T) {
	t.Parallel()
	p := newPrivileged(t, "\n          \"outboxie.api.CONSUMER.INFO.ORDERS.*\"") // the whole line, because the file has this subject elsewhere, too
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	writes := infra.Serve(t, "api", p.as(writer, "api", "OUTBOXIE_ROLES=api"))
	infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0"), "serve")
	placeMany(t, writes.API(), 2)
	process := subscribe(t, "emails", p.as(subscriber, "subscriber"))
	require.Eventually(t, func() bool {
		return count(t, p.admin, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == 2
	}, waitTimeout, 10*time.Millisecond)
	const denial = "may not read the consumer of an earlier version"
	require.Equal(t, 1, strings.Count(process.String(), denial), process)
}
