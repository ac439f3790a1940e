//go:build scale

package scale_test

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const (
	migrator   = "outboxie_migrator"
	writer     = "outboxie_writer"
	relayer    = "outboxie_relay"
	subscriber = "outboxie_subscriber"
	emitter    = "outboxie_emitter"
	operator   = "outboxie_operator"
	eraser     = "outboxie_eraser"
)

// privileged is a Postgres and a NATS with the roles of docker/ only, and an administrator for the test.
type privileged struct {
	t      *testing.T
	admin  *sql.DB
	server *url.URL // or a pooler before it
	direct *url.URL
	broker string // host:port

	withheld []string // rights in docker/nats-permissions.conf that nobody gets
}

func newPrivileged(t *testing.T, withheld ...string) *privileged {
	t.Helper()
	p := &privileged{t: t, withheld: withheld}
	server := infra.Postgres(t)
	_, err := open(t, server.URL).Exec("CREATE DATABASE shop")
	require.NoError(t, err)
	p.server, err = url.Parse(server.URL)
	require.NoError(t, err)
	p.server.Path = "/shop"
	query := p.server.Query()
	query.Set("default_query_exec_mode", "simple_protocol") // for several statements at once, and for PgBouncer
	p.server.RawQuery = query.Encode()
	p.direct = p.server
	p.admin = open(t, p.server.String())
	p.applyRoles()
	for role, password := range passwords {
		_, err := p.admin.Exec("ALTER ROLE " + role + " PASSWORD '" + password + "'")
		require.NoError(t, err)
	}
	p.startNATS()
	return p
}

var passwords = map[string]string{
	migrator: "secret", writer: "secret", relayer: "secret", subscriber: "secret", emitter: "secret", operator: "secret", eraser: "secret",
}

func (p *privileged) applyRoles() {
	p.t.Helper()
	text, err := os.ReadFile("../../docker/roles.sql")
	require.NoError(p.t, err)
	_, err = p.admin.Exec(string(text))
	require.NoError(p.t, err)
}

func (p *privileged) startNATS() {
	p.t.Helper()
	permissions, err := os.ReadFile("../../docker/nats-permissions.conf")
	require.NoError(p.t, err)
	known := regexp.MustCompile(`\$NATS_\w+_PASSWORD`).ReplaceAllString(string(permissions), "secret")
	for _, right := range p.withheld {
		require.Contains(p.t, known, right)
		known = strings.ReplaceAll(known, right, "")
	}
	known = strings.Replace(known, "users = [", "users = [\n{user: admin, password: secret}", 1)
	p.broker = fmt.Sprintf("127.0.0.1:%d", infra.Port(p.t))
	infra.StartNATSProcess(p.t, fmt.Sprintf("listen: %s\njetstream { store_dir: %q, sync_interval: always }\n%s",
		p.broker, filepath.Join(p.t.TempDir(), "nats"), known))
}

func (p *privileged) database(role string) string {
	address := *p.server
	address.User = url.UserPassword(role, "secret")
	return address.String()
}

func (p *privileged) nats(user string) string { return "nats://" + user + ":secret@" + p.broker }

// as returns the environment of a process with a role in Postgres and a user in NATS.
func (p *privileged) as(role, user string, settings ...string) []string {
	return append([]string{
		"DATABASE_URL=" + p.database(role), "NATS_URL=" + p.nats(user), "OUTBOX_LEASE_TTL=1s", "SUBSCRIBER_MAX_ATTEMPTS=1",
	}, settings...)
}

// TestLeastPrivilege checks that every task works with the rights of docker/roles.sql and docker/nats-permissions.conf only, directly and
// through a PgBouncer in transaction mode, and that each part is refused what it must not do.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	t.Run("direct", func(t *testing.T) { requireEverything(t, newPrivileged(t)) })
	t.Run("through PgBouncer", func(t *testing.T) {
		p := newPrivileged(t)
		var err error
		p.server, err = url.Parse(infra.PgBouncer(t, p.server.String(), passwords))
		require.NoError(t, err)
		requireEverything(t, p)
	})
}

func requireEverything(t *testing.T, p *privileged) {
	t.Helper()
	said := outboxie(t, p.as(relayer, "relay"), 2, "serve")
	require.Contains(t, said, "outboxie migrate up")
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	outboxie(t, p.as(writer, "api"), 0, "migrate", "up") // nothing is missing

	writes := infra.Serve(t, "api", p.as(writer, "api", "OUTBOXIE_ROLES=api", "PERSONAL_DATA=sealed"))
	api := writes.API()
	relay := infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0", "STREAM_MAX_BYTES=1000000000"), "serve")
	subscribe(t, "emails", p.as(subscriber, "subscriber"))
	applied := func(events int) {
		t.Helper()
		require.Eventually(t, func() bool {
			return count(t, p.admin, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == events
		}, waitTimeout, 10*time.Millisecond)
	}
	placeMany(t, api, 2)
	requirePlaced(t, api)
	applied(3)
	requireWaits(t, p)
	applied(3 + 2)
	requireParking(t, p)
	requireDeadLetter(t, p)
	applied(3 + 2 + 1 + 1)
	requireErasure(t, p)
	requireSweeps(t, p)
	requireRepair(t, p, api, relay)
	requireRemadeStream(t, p, api)
	requireRealignment(t, p, api)
	require.Contains(t, outboxie(t, p.as(operator, "operator"), 0, "outbox", "status"), "relaying")
	requireMeasured(t, writes, relay)
	for _, process := range []*infra.Process{writes, relay} {
		require.NotContains(t, process.String(), "ermission")
	}
	t.Run("refused by Postgres", func(t *testing.T) { requireRefusedByPostgres(t, p) })
	t.Run("refused to strangers", func(t *testing.T) { requireStrangerRefused(t, p) })
	t.Run("refused by NATS", func(t *testing.T) { requireRefusedByNATS(t, p) })
	t.Run("docker/roles.sql names every table", func(t *testing.T) { requireAllTables(t, p) })
}

// requirePlaced places an order, and asks where its event is until it is published.
func requirePlaced(t *testing.T, api string) {
	t.Helper()
	order, err := infra.Place(api)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + api + "/orders/" + order.ID + "/events")
		require.NoError(t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.StatusCode, "%s", text)
		return strings.Contains(string(text), `"published"`)
	}, waitTimeout, 20*time.Millisecond)
}

// requireMeasured checks that the relay may read all that its metrics need. An instance that only serves the API has metrics of its own.
func requireMeasured(t *testing.T, api, relay *infra.Process) {
	t.Helper()
	infra.WaitForSample(t, relay.Admin(), 0, "outboxie_outbox_backlog")
	infra.WaitForSample(t, relay.Admin(), 0, "outboxie_subscriber_lag", "messaging_consumer_group_name=emails")
	shown := infra.Scrape(t, api.Admin())
	require.NotEmpty(t, shown.Find("http_server_request_duration_seconds_count", "http_response_status_code=201"))
	require.Empty(t, shown.Find("outboxie_outbox_backlog"))
}

// requireWaits checks that the relay waits for an open transaction of another role, because it sees others' locks, and that `outbox status`
// shows this transaction. Nothing is lost when that transaction commits after later ones.
func requireWaits(t *testing.T, p *privileged) {
	t.Helper()
	db := open(t, p.database(writer))
	early, err := db.Begin()
	require.NoError(t, err)
	defer early.Rollback() //nolint:errcheck // after a commit it does nothing
	_, err = early.Exec(appendStatement, uuid.NewString(), 1, "")
	require.NoError(t, err)
	_, err = db.Exec(appendStatement, uuid.NewString(), 1, "")
	require.NoError(t, err)
	var status string
	require.Eventually(t, func() bool {
		status = outboxie(t, p.as(operator, "operator"), 0, "outbox", "status")
		return strings.Contains(status, "waiting for an open transaction")
	}, waitTimeout, 50*time.Millisecond)
	require.Contains(t, status, "INSERT INTO outbox", "status shows its statement")
	require.NoError(t, early.Commit())
}

// appendStatement writes the event of a new order as a service that writes SQL does, with a note of any size.
const appendStatement = `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
	VALUES (gen_random_uuid(), 'order', $1, $2::int, 'outboxie.order.created.v1', 'orders.created', json_build_object(
		'order_id', $1::text, 'customer_id', gen_random_uuid(), 'amount', '1.00', 'currency', 'USD', 'status', 'created',
		'version', $2::int, 'created_at', now(), 'note', $3::text))`

func requireParking(t *testing.T, p *privileged) {
	t.Helper()
	db := open(t, p.database(writer))
	large, other := uuid.NewString(), uuid.NewString()
	for _, event := range []struct {
		order         string
		version, size int
	}{{large, 1, 1_200_000}, {large, 2, 0}, {other, 1, 1_200_000}} {
		_, err := db.Exec(appendStatement, event.order, event.version, strings.Repeat("x", event.size))
		require.NoError(t, err)
	}
	operator := p.as(operator, "operator")
	require.Eventually(t, func() bool {
		return strings.Contains(outboxie(t, operator, 0, "outbox", "parked"), "3 events of 2 aggregates")
	}, waitTimeout, 50*time.Millisecond)
	outboxie(t, operator, 0, "outbox", "discard", "--aggregate", other, "--yes")
	position := count(t, p.admin, "SELECT min(position) FROM outbox_parked")
	outboxie(t, operator, 0, "outbox", "discard", "--position", fmt.Sprint(position), "--yes")
	outboxie(t, operator, 0, "outbox", "redrive", "--type", "outboxie.order.created.v1", "--yes")
	require.Eventually(t, func() bool {
		return count(t, p.admin, "SELECT count(*) FROM outbox_parked WHERE state = 'redriven'") == 1
	}, waitTimeout, 10*time.Millisecond)
	require.Contains(t, outboxie(t, operator, 0, "outbox", "redrive", "--all"), "Nothing is parked")
	require.Contains(t, outboxie(t, operator, 0, "outbox", "list", "--json"), "redriven")
}

// requireDeadLetter checks that an operator can list, retry and discard dead letters, and that an event of another order is applied.
func requireDeadLetter(t *testing.T, p *privileged) {
	t.Helper()
	db, operator := open(t, p.database(writer)), p.as(operator, "operator", "SUBSCRIBER_ID=emails")
	for _, order := range []string{"x", "y"} {
		_, err := db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			VALUES (gen_random_uuid(), 'order', $1, 1, 'outboxie.order.created.v1', 'orders.created', '{"amount": "nonsense"}')`, order)
		require.NoError(t, err)
	}
	_, err := db.Exec(appendStatement, uuid.NewString(), 1, "")
	require.NoError(t, err)
	dead := func(letters int) {
		t.Helper()
		require.Eventually(t, func() bool {
			return count(t, p.admin, "SELECT count(*) FROM dead_letters WHERE state = 'dead'") == letters
		}, waitTimeout, 10*time.Millisecond)
	}
	dead(2)
	require.Contains(t, outboxie(t, operator, 0, "subscriber", "dead"), "order/x")
	outboxie(t, operator, 0, "subscriber", "retry", "--all")
	dead(2)
	var id string
	require.NoError(t, p.admin.QueryRow("SELECT event_id FROM dead_letters WHERE aggregate_id = 'x'").Scan(&id))
	require.Contains(t, outboxie(t, operator, 0, "subscriber", "dead", "--groups"), "cannot be read")
	outboxie(t, operator, 0, "subscriber", "retry", "--event", id)
	dead(2)
	outboxie(t, operator, 0, "subscriber", "discard", "--event", id, "--yes")
	outboxie(t, operator, 0, "subscriber", "discard", "--aggregate", "order/y", "--yes")
	dead(0)
	requireVerbs(t, p, operator)
}

// requireVerbs operates the subscriber, and forgets another one.
func requireVerbs(t *testing.T, p *privileged, operator []string) {
	t.Helper()
	infra.RequireInSource(t, "cannot be asked")
	require.NotContains(t, outboxie(t, operator, 0, "subscriber", "status"), "cannot be asked")
	for _, verb := range [][]string{
		{"pause"},
		{"rewind", "--to", "start"},
		{"skip", "--to", "end", "--yes"},
		{"resume"},
		{"lanes", "--to", "2"},
		{"rewind", "--to", "start"},
		{"ignore", "--type", "outboxie.order.cancelled.v1", "--yes"},
	} {
		outboxie(t, operator, 0, append([]string{"subscriber"}, verb...)...)
	}
	_, err := p.admin.Exec("INSERT INTO inbox VALUES ('gone', gen_random_uuid(), 'order', 'x', 1, 1)")
	require.NoError(t, err)
	for _, verb := range []string{"--yes", "--lift"} {
		outboxie(t, operator, 0, "subscriber", "forget", "--id", "gone", verb)
	}
}

// requireSweeps runs the tasks that run once a minute or less often: retention, and the sweeps of keys and of the inbox.
func requireSweeps(t *testing.T, p *privileged) {
	t.Helper()
	ctx := t.Context()
	db := func(role string) *bun.DB {
		db, err := postgres.Open(postgres.Options{URL: p.database(role)})
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	_, err := p.admin.Exec("INSERT INTO request_keys VALUES ('old', 'x', sha256(''), gen_random_uuid(), now() - interval '2 days')")
	require.NoError(t, err)
	deleted, err := postgres.NewExpiredKeys(db(writer)).Delete(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, 1, deleted)
	inboxes := postgres.NewInbox(db(subscriber), postgres.InboxOptions{})
	_, _, err = inboxes.Candidates(ctx, "emails", "", time.Hour, 10)
	require.NoError(t, err)
	_, err = inboxes.Sweep(ctx, "emails", "", []string{"none"}, 1, 1)
	require.NoError(t, err)
	var stream string
	require.NoError(t, p.admin.QueryRow("SELECT stream_created FROM outbox_cursor").Scan(&stream))
	first := count(t, p.admin, "SELECT min(position) FROM outbox WHERE position NOT IN (SELECT position FROM outbox_parked)")
	hole := inbox.Hole{Lanes: 1, Stream: stream, First: 1, Last: 1, EndsBefore: outbox.Position(first + 1)}
	lost, err := inboxes.ReadHole(ctx, "nobody", hole, inbox.ReadLimit{Count: 1, Bytes: 1})
	require.NoError(t, err)
	require.Empty(t, lost.Events, "it wants none")
	_, err = p.admin.Exec("INSERT INTO subscriber_types SELECT DISTINCT 'nobody', event_type FROM outbox")
	require.NoError(t, err)
	lost, err = inboxes.ReadHole(ctx, "nobody", hole, inbox.ReadLimit{Count: 1, Bytes: 1})
	require.NoError(t, err)
	require.Len(t, lost.Events, 1)
	_, err = p.admin.Exec("DELETE FROM subscriber_types WHERE subscriber = 'nobody'")
	require.NoError(t, err)
	retention := postgres.NewRetention(db(relayer), "ORDERS")
	removed := 0
	require.Eventually(t, func() bool { // the first call sets a mark, the relay may have moved between the calls
		n, err := retention.Purge(ctx, int64(count(t, p.admin, "SELECT token FROM leases")), time.Millisecond, 2)
		require.NoError(t, err)
		removed += n
		return removed >= 2
	}, waitTimeout, 10*time.Millisecond)
}

// requireRepair checks that an operator can adopt after the relay halted.
func requireRepair(t *testing.T, p *privileged, api string, relay *infra.Process) {
	t.Helper()
	require.Eventually(t, func() bool {
		return count(t, p.admin, "SELECT count(*) FROM outbox_cursor WHERE position = (SELECT max(position) FROM outbox)") == 1
	}, waitTimeout, 10*time.Millisecond)
	_, err := p.admin.Exec("DELETE FROM outbox WHERE position = (SELECT max(position) FROM outbox)")
	require.NoError(t, err)
	placeMany(t, api, 1)
	relay.WaitFor("relay halted")
	requireHalt(t, p.as(operator, "operator"), "history_lost")
	require.Contains(t, outboxie(t, p.as(operator, "operator"), 2, "outbox", "adopt"), "history_lost")
	outboxie(t, p.as(operator, "operator"), 0, "outbox", "adopt", "--yes")
	relay.WaitFor("relaying again")
}

// requireRemadeStream replaces the stream by a new one. The relay's user may not raise the sequences of the new stream, the operator's user may.
func requireRemadeStream(t *testing.T, p *privileged, api string) {
	t.Helper()
	js := jetStream(t, p.nats("admin"))
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	require.NoError(t, js.DeleteStream(t.Context(), "ORDERS"))
	_, err = js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	requireHalt(t, p.as(operator, "operator"), "stream_replaced")
	outboxie(t, p.as(operator, "relay"), 1, "outbox", "adopt", "--yes")
	require.Contains(t, outboxie(t, p.as(operator, "operator"), 0, "outbox", "adopt", "--yes"), "raise its sequences")
	requirePlaced(t, api)
}

// requireRealignment sets the sequence of positions back, and checks that an operator can put the log in order.
func requireRealignment(t *testing.T, p *privileged, api string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return count(t, p.admin, "SELECT count(*) FROM outbox_cursor WHERE position = (SELECT max(position) FROM outbox)") == 1
	}, waitTimeout, 10*time.Millisecond)
	// This is one transaction. Otherwise the relay could see that rows are gone and not purged, and would halt because of lost events.
	_, err := p.admin.Exec(`DELETE FROM outbox AS o WHERE NOT EXISTS (SELECT FROM outbox_parked AS p WHERE p.position = o.position);
		UPDATE outbox_cursor SET purged_to = position;
		ALTER TABLE outbox ALTER COLUMN position RESTART`)
	require.NoError(t, err)
	placeMany(t, api, 1)
	requireHalt(t, p.as(operator, "operator"), "sequence_behind")
	require.Contains(t, outboxie(t, p.as(relayer, "relay"), 2, "outbox", "adopt", "--yes"), "outboxie_operator")
	require.Contains(t, outboxie(t, p.as(operator, "operator"), 0, "outbox", "adopt", "--yes"), "move 1 event ")
	requirePlaced(t, api)
}
