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

// requireAllTables : whoever adds a table decides who may do what with it.
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
			"CREATE TEMP TABLE outbox (LIKE outbox)", // it would take the events of the session
			"UPDATE outbox SET payload = '{}'", "DELETE FROM outbox", "TRUNCATE outbox", "DELETE FROM orders",
			"UPDATE leases SET token = 9", "UPDATE outbox_cursor SET position = 0", "DELETE FROM outbox_parked",
			"UPDATE outbox_parked SET state = 'redrive'", "INSERT INTO inbox SELECT FROM inbox", "SELECT FROM dead_letters",
			"SELECT FROM subscriber_lanes", "SELECT FROM customer_totals", "CREATE TABLE more ()", "ALTER TABLE outbox ALTER COLUMN position SET CACHE 10",
		},
		relayer: {
			"UPDATE outboxie_engine_migrations SET is_applied = false", "DELETE FROM outboxie_engine_migration_lock",
			"INSERT INTO outbox DEFAULT VALUES", "UPDATE outbox SET payload = '{}'", "UPDATE outbox SET event_id = gen_random_uuid()",
			"TRUNCATE outbox", "SELECT FROM orders", "SELECT FROM request_keys", "SELECT FROM idempotency_keys", "SELECT FROM inbox", "DELETE FROM leases",
			"UPDATE subscriber_lanes SET sequence = 0", "SELECT FROM subscriber_marks", "SELECT FROM subscriber_copies", "DELETE FROM outbox_cursor", "SELECT FROM customer_totals", "CREATE TABLE more ()",
		},
		subscriber: {
			"UPDATE outboxie_engine_migrations SET is_applied = false", "DELETE FROM outboxie_engine_migration_lock",
			"SELECT payload FROM outbox", "SELECT position FROM outbox", "SELECT aggregate_id FROM outbox", "INSERT INTO outbox DEFAULT VALUES",
			"DELETE FROM outbox", "SELECT FROM orders", "UPDATE leases SET token = 9", "SELECT position FROM outbox_cursor",
			"UPDATE outbox_cursor SET position = 0", "SELECT reason FROM outbox_parked", "DELETE FROM outbox_parked",
			"DELETE FROM customer_totals", "CREATE TABLE more ()",
		},
		operator: {"UPDATE outbox SET payload = '{}'", "SELECT FROM orders", "SELECT FROM inbox", "CREATE TABLE more ()"},
	} {
		db := open(t, p.database(role))
		for _, statement := range slices.Concat(statements, refusedToAll) {
			_, err := db.Exec(statement)
			require.ErrorContains(t, err, "42501", "%s: %s", role, statement) // insufficient privilege
		}
	}
}

// refusedToAll is what no role may that is no superuser.
var refusedToAll = []string{
	"CREATE TEMP TABLE more ()", "SELECT 1 AS one INTO TEMP more", "SELECT lo_create(0)", "SELECT lo_creat(-1)", "SELECT lo_from_bytea(0, 'x')",
	"SELECT lo_put(1, 0, 'x')", "SELECT lo_open(1, 131072)", "SELECT lowrite(0, 'x')", "SELECT lo_import('/etc/passwd')", "CREATE SCHEMA more",
	"COPY (SELECT 1) TO PROGRAM 'true'", "SELECT pg_read_file('/etc/passwd')", "CREATE ROLE more", "CREATE DATABASE more", "ALTER SYSTEM SET fsync = off",
}

// requireStrangerRefused tries what a role may that is none of docker/roles.sql. It may not connect, and if somebody lets it in, it sees
// and creates nothing.
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
		"subscriber": {"orders.created", "outboxie.ORDERS.notices", "outboxie.ORDERS.wake", "outboxie.ORDERS.leader.1", "$JS.API.STREAM.UPDATE.ORDERS", "$JS.API.STREAM.PURGE.ORDERS"},
		"operator": {
			"orders.created", "$JS.API.STREAM.DELETE.ORDERS", "$JS.API.STREAM.MSG.DELETE.ORDERS", "$JS.API.STREAM.PURGE.OTHER",
			"$JS.API.CONSUMER.CREATE.ORDERS.emails", "outboxie.ORDERS.leader.7",
		},
		"relay": {
			"$JS.API.STREAM.DELETE.ORDERS", "$JS.API.STREAM.PURGE.ORDERS", "$JS.API.STREAM.MSG.DELETE.ORDERS", "$JS.API.STREAM.CREATE.OTHER",
			"$JS.API.CONSUMER.CREATE.ORDERS.emails", "$JS.ACK.ORDERS.emails.1.1.1.1.1", "invoices.created", "_INBOX.somebody.else",
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
	for _, user := range []string{"api", "subscriber"} { // or a dead leader would seem to be there
		nc, err := nats.Connect(p.nats(user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		require.NoError(t, err)
		_, err = nc.SubscribeSync("outboxie.ORDERS.leader.1")
		require.NoError(t, err)
		require.NoError(t, nc.Flush())
		require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation, user)
		nc.Close()
	}
	users := []string{"relay", "operator", "api", "subscriber"}
	for _, user := range users { // answers, and deliveries, are for the one who asked
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
}

// requireAnswersStayOut has answers and events sent to the stream's subjects. NATS does not judge the subject that a request names
// for its answer, so only separate accounts keep them out of the stream.
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
	js, err := jetstream.New(connected(t, p.nats("subscriber"), nats.CustomInboxPrefix("_INBOX.subscriber")))
	require.NoError(t, err)
	_, err = js.CreateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{
		Durable: "forger", FilterSubject: "orders.>", AckPolicy: jetstream.AckExplicitPolicy,
	})
	require.NoError(t, err)
	for _, request := range []struct{ user, subject, body string }{
		{"subscriber", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.forger", `{"batch":100,"no_wait":true}`},
		{"subscriber", "$JS.API.CONSUMER.INFO.ORDERS.forger", ""},
		{"subscriber", "$JS.API.CONSUMER.CREATE.ORDERS.forger", "{}"},
		{"api", "$JS.API.STREAM.INFO.ORDERS", ""},
		{"api", "$JS.API.STREAM.MSG.GET.ORDERS", fmt.Sprintf(`{"seq":%d}`, before)},
		{"api", "outboxie.ORDERS.wake", ""},
	} {
		nc := connected(t, p.nats(request.user))
		for _, reply := range []string{"orders.created", "outboxie.ORDERS.notices"} {
			require.NoError(t, nc.PublishRequest(request.subject, reply, []byte(request.body)))
		}
		require.NoError(t, nc.Flush())
		require.NoError(t, nc.LastError())
	}
	require.Never(t, func() bool { return last() != before }, time.Second, 50*time.Millisecond, "an answer was stored in the stream")
}

func connected(t *testing.T, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, options...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// requireDeaf shows that a user may not subscribe.
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

// TestBlindRelay hides rows from the relay, and it does not start; and the locks of others, and it fails at the first gap,
// instead of taking it for a dead one.
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
	} {
		require.Contains(t, outboxie(t, p.as(role, "relay"), 2, command...), "outbox has no unique index on (event_id)", role)
	}
	_, err = p.admin.Exec("CREATE UNIQUE INDEX outbox_event_id ON outbox (event_id)")
	require.NoError(t, err)
	_, err = p.admin.Exec("REVOKE SELECT ON pg_locks FROM PUBLIC")
	require.NoError(t, err)
	relay := infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0"), "serve")
	relay.Says("became leader")
	db := open(t, p.database(writer))
	early, err := db.Begin()
	require.NoError(t, err)
	defer early.Rollback() //nolint:errcheck // after a commit it does nothing
	_, err = early.Exec(appendStatement, uuid.NewString(), 1, "")
	require.NoError(t, err)
	_, err = db.Exec(appendStatement, uuid.NewString(), 1, "")
	require.NoError(t, err)
	relay.Says("permission denied for view pg_locks")
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
	require.Eventually(t, func() bool { return last() == 2 }, patience, 50*time.Millisecond) // there is no gap any more
}

// TestSubscriberMayNotLook withholds the right to read the consumer's settings. The subscriber goes on without it.
func TestSubscriberMayNotLook(t *testing.T) {
	t.Parallel()
	p := newPrivileged(t, `"outboxie.api.CONSUMER.INFO.ORDERS.*"          # has somebody changed or paused it?`)
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0"), "serve")
	process := subscribe(t, "emails", p.as(subscriber, "subscriber", "LOG_LEVEL=info"))
	process.Says("subscribed stream=")
	process.Says("Permissions Violation")
	time.Sleep(3 * time.Second) // it waits a second for the answer to a look
	require.Equal(t, 1, strings.Count(process.String(), "subscribed stream="), process)
}
