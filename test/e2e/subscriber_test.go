package e2e_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// readership is a shop with one instance, and the subscriber emails to be run against it.
type readership struct {
	t           *testing.T
	db          *sql.DB
	broker      *infra.NATSServer
	store       string // the broker's folder
	environment []string
	api         string
}

func newReadership(t *testing.T, settings ...string) *readership {
	t.Helper()
	return readershipOn(t, infra.Database(t), settings...)
}

func readershipOn(t *testing.T, database string, settings ...string) *readership {
	t.Helper()
	r := &readership{t: t}
	r.broker = infra.NATS(t, func(o *embedded.NATSOptions) { r.store = o.StoreDir })
	r.environment = append([]string{"DATABASE_URL=" + database, "NATS_URL=" + r.broker.URL, "LOG_LEVEL=debug"}, settings...)
	var err error
	r.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.db.Close() })
	r.api = infra.Serve(t, "app", r.environment).API()
	return r
}

// record writes so many created orders into the log with one statement, each of a customer of its own.
func (r *readership) record(orders int) {
	r.t.Helper()
	_, err := r.db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', id, 1, 'outboxie.order.created.v1', 'orders.created', json_build_object('order_id', id,
			'customer_id', gen_random_uuid(), 'amount', '100.50', 'currency', 'USD', 'status', 'created', 'version', 1, 'created_at', now())
		FROM (SELECT gen_random_uuid()::text AS id FROM generate_series(1, $1)) AS o`, orders)
	require.NoError(r.t, err)
}

// read starts a copy of the subscriber.
func (r *readership) read(copyOf string) *infra.Process {
	return infra.Launch(r.t, append([]string{"INSTANCE_ID=" + copyOf, "ADMIN_ADDR=127.0.0.1:0"}, r.environment...), "subscribe", "--id", "emails")
}

// order places one for a customer.
func (r *readership) order(customer string) infra.Order {
	r.t.Helper()
	order, err := infra.PlaceFor(r.api, customer)
	require.NoError(r.t, err)
	return order
}

func (r *readership) pay(order infra.Order) {
	r.t.Helper()
	_, err := infra.Transition(r.api, order.ID, "pay")
	require.NoError(r.t, err)
}

func (r *readership) eventually(query string, want int) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return count(r.t, r.db, query) == want }, patience, 5*time.Millisecond, "%s is never %d", query, want)
}

// awaitPublished waits until the stream has so many messages.
func (r *readership) awaitPublished(messages int) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return published(r.t, r.broker.URL) == uint64(messages) }, patience, tick)
}

const applied = "SELECT count(*) FROM inbox WHERE subscriber = 'emails' AND applied_at IS NOT NULL"

// requireEffects waits until every event but the discarded ones took effect, and requires that each did once, in the order
// of versions.
func (r *readership) requireEffects() {
	r.t.Helper()
	const discarded = "SELECT 1 FROM dead_letters AS d WHERE d.state = 'discarded' AND d.event_id = o.event_id::text"
	events := count(r.t, r.db, "SELECT count(*) FROM outbox AS o WHERE NOT EXISTS ("+discarded+")")
	r.eventually(applied, events)
	created := count(r.t, r.db, "SELECT count(*) FROM outbox AS o WHERE aggregate_version = 1 AND NOT EXISTS ("+discarded+")")
	require.Equal(r.t, created, count(r.t, r.db, "SELECT coalesce(sum(orders), 0) FROM customer_totals WHERE subscriber = 'emails'"))
	require.Zero(r.t, count(r.t, r.db, `SELECT count(*) FROM (
		SELECT aggregate_version, lag(aggregate_version) OVER (PARTITION BY aggregate_id ORDER BY applied_at, aggregate_version) AS before
		FROM inbox WHERE applied_at IS NOT NULL) AS i WHERE aggregate_version < before`), "in order within each order")
}

// requireInOrder requires that effects happened in the order of the log.
func (r *readership) requireInOrder() {
	r.t.Helper()
	require.Zero(r.t, count(r.t, r.db, `SELECT count(*) FROM (
		SELECT position, lag(position) OVER (ORDER BY applied_at, position) AS before FROM inbox) AS i WHERE position < before`))
}

// holdUp keeps the effect of the next order of a customer, who has ordered before, from being written. It returns how to
// let it go, and how to wait for the copy of the subscriber that is held up.
func (r *readership) holdUp(customer string) (release func(), who func() string) {
	r.t.Helper()
	tx, err := r.db.Begin()
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = tx.Rollback() })
	_, err = tx.Exec("SELECT FROM customer_totals WHERE customer_id = $1 FOR UPDATE", customer)
	require.NoError(r.t, err)
	return func() { require.NoError(r.t, tx.Rollback()) }, func() (name string) {
		r.t.Helper()
		require.Eventually(r.t, func() bool {
			return r.db.QueryRow(`SELECT application_name FROM pg_stat_activity WHERE datname = current_database()
				AND wait_event_type = 'Lock' AND query LIKE '%customer_totals%'`).Scan(&name) == nil
		}, patience, 5*time.Millisecond)
		return name
	}
}

const poor = "018f0000-0000-7000-8000-00000000000f" // a customer whose total can be refused

// poison makes the handler fail for the orders of the poor, until cure. A retry could help.
func (r *readership) poison() {
	r.t.Helper()
	_, err := r.db.Exec(`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no credit'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON customer_totals FOR EACH ROW WHEN (NEW.customer_id = '` + poor + `') EXECUTE FUNCTION refuse()`)
	require.NoError(r.t, err)
}

func (r *readership) cure() {
	r.t.Helper()
	_, err := r.db.Exec("DROP TRIGGER refuse ON customer_totals")
	require.NoError(r.t, err)
}

// command runs the program until it ends.
func (r *readership) command(args ...string) (code int, said string) {
	r.t.Helper()
	cmd := exec.Command(infra.Binary(r.t), args...)
	cmd.Env = append(os.Environ(), r.environment...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(r.t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (r *readership) requireCommand(code int, says string, args ...string) string {
	r.t.Helper()
	got, said := r.command(append([]string{"subscriber"}, args...)...)
	require.Equal(r.t, code, got, said)
	require.Contains(r.t, said, says)
	return said
}

// ready is what a process says about itself that is ready.
func ready(t *testing.T, p *infra.Process) string {
	t.Helper()
	status, said := askReadiness(t, p)
	require.Equal(t, http.StatusOK, status, "the rest flows")
	return said
}

func askReadiness(t *testing.T, p *infra.Process) (status int, said string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Admin()+"/readyz", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+infra.AdminToken)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// TestPoisonEvent goes through the life of a dead letter, as the operator sees it. Others of the lane do not wait.
func TestPoisonEvent(t *testing.T) {
	r := newReadership(t, "SUBSCRIBER_MAX_ATTEMPTS=3")
	reader := r.read("reader")
	placeMany(t, r.api, 3)
	r.requireEffects()
	require.Contains(t, ready(t, reader), `"status":"ready"`)
	r.requireCommand(0, "Subscriber emails has no dead letters.", "dead", "--id", "emails")
	r.requireCommand(1, "these have: emails", "dead", "--id", "email")

	r.poison()
	order := r.order(poor)
	r.pay(order)
	began := time.Now()
	placeMany(t, r.api, 3)
	r.eventually(applied, 6)
	t.Logf("others of the lane went on after %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 3*time.Second, "nobody waits for an event that fails")
	id := reader.Says(`retry="outboxie subscriber retry --id emails --event `)
	id = strings.TrimSuffix(id, `"`)
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'waiting'", 1)
	require.Contains(t, ready(t, reader), `"status":"degraded"`)
	require.Contains(t, ready(t, reader), "1 dead; `outboxie subscriber dead --id emails` lists them")
	list := r.requireCommand(0, id, "dead", "--id", "emails")
	require.Regexp(t, `dead +\S+s +3 +1 +.*no credit`, list)

	r.requireCommand(0, "retries event "+id, "retry", "--id", "emails", "--event", id)
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead' AND attempts = 3", 1)
	var listed []struct {
		EventID string          `json:"event_id"`
		State   string          `json:"state"`
		Error   string          `json:"error"`
		Behind  int             `json:"behind"`
		Payload json.RawMessage `json:"payload"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.requireCommand(0, "", "dead", "--id", "emails", "--json")), &listed))
	require.Len(t, listed, 1)
	require.Equal(t, id, listed[0].EventID)
	require.Equal(t, 1, listed[0].Behind)
	require.Contains(t, string(listed[0].Payload), order.ID)

	r.cure()
	r.requireCommand(0, "retries 1 dead letters", "retry", "--id", "emails", "--all")
	r.requireEffects()
	require.Contains(t, ready(t, reader), `"status":"ready"`)
	r.requireCommand(1, "has no dead letter "+id, "retry", "--id", "emails", "--event", id)
	r.requireCommand(2, "either --event ID or --all", "retry", "--id", "emails")

	r.poison()
	r.pay(r.order(poor))
	r.eventually("SELECT count(*) FROM dead_letters WHERE state IN ('dead', 'waiting')", 2)
	require.NoError(t, r.db.QueryRow("SELECT event_id FROM dead_letters WHERE state = 'dead'").Scan(&id))
	said := r.requireCommand(2, "say --yes", "discard", "--id", "emails", "--event", id)
	require.Contains(t, said, "behind which 1 events wait")
	r.requireCommand(0, "Discarded", "discard", "--id", "emails", "--event", id, "--yes")
	r.requireCommand(1, "was discarded", "discard", "--id", "emails", "--event", id, "--yes")
	r.requireEffects()
}

// TestWhatCannotHealIsDeadAtOnce checks that an event that no retry can heal fails once: one whose payload nobody can read, and one
// whose effect violates a check. Others of their batch go on. A sum beyond 64 bits is no such event.
func TestWhatCannotHealIsDeadAtOnce(t *testing.T) {
	r := newReadership(t)
	_, err := r.db.Exec(`ALTER TABLE customer_totals ADD CONSTRAINT solvent CHECK (customer_id <> '` + poor + `');
		INSERT INTO customer_totals (subscriber, customer_id, currency, amount_minor, orders)
		VALUES ('emails', '` + infra.Customer + `', 'USD', 9223372036854775807, 0)`)
	require.NoError(t, err)
	nonsense := r.order(infra.Customer)
	_, err = r.db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', $1, 2, 'outboxie.order.paid.v1', 'orders.paid', '"nonsense"')`, nonsense.ID)
	require.NoError(t, err)
	r.order(poor)
	r.order(infra.Customer)
	r.awaitPublished(4)
	began := time.Now()
	r.read("reader")
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead' AND attempts = 1", 2)
	r.eventually(applied, 2)
	t.Logf("two were dead, and two applied, %s after the start", time.Since(began).Round(time.Millisecond))
	var sum string
	require.NoError(t, r.db.QueryRow("SELECT amount_minor + amount FROM customer_totals WHERE customer_id = $1", infra.Customer).Scan(&sum))
	require.Equal(t, "9223372036854795907", sum)
}

// TestForeignMessage checks that what somebody else wrote is set aside with its bytes, and holds up nothing: also what has the headers
// of an answer of the broker.
func TestForeignMessage(t *testing.T) {
	r := newReadership(t)
	reader := r.read("reader")
	placeMany(t, r.api, 2)
	r.requireEffects()
	js, done := connect(t, r.broker.URL)
	defer done()
	publish := func(header nats.Header, data []byte) {
		t.Helper()
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "orders.created", Data: data, Header: header})
		require.NoError(t, err)
	}
	publish(nats.Header{"Who": {"me", "you"}}, []byte{0, 1, 255})
	for _, status := range []string{"100", "204", "404", "503"} {
		publish(nats.Header{"Status": {status}}, nil)
	}
	placeMany(t, r.api, 2)
	r.requireEffects()
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead' AND attempts = 1", 5)
	id := reader.Says("a message is no event that can be read, it is set aside and everything else goes on subscriber=emails event_id=")
	require.True(t, strings.HasPrefix(id, "unreadable-3-"), id)
	var payload []byte
	var headers string
	require.NoError(t, r.db.QueryRow("SELECT payload, headers FROM dead_letters WHERE event_id = $1", id).Scan(&payload, &headers))
	require.Equal(t, []byte{0, 1, 255}, payload)
	require.JSONEq(t, `{"Who": "me\nyou"}`, headers)
	r.requireCommand(1, "it can only be discarded", "retry", "--id", "emails", "--event", id)
	for rows := count(t, r.db, "SELECT count(*) FROM dead_letters"); rows > 0; rows-- {
		require.NoError(t, r.db.QueryRow("SELECT event_id FROM dead_letters WHERE state = 'dead' LIMIT 1").Scan(&id))
		r.requireCommand(0, "Discarded", "discard", "--id", "emails", "--event", id, "--yes")
	}
	require.Contains(t, ready(t, reader), `"status":"ready"`)
}

// TestReceivedIsLogged checks that each event of a batch of ten has its line, and that a larger batch has one.
func TestReceivedIsLogged(t *testing.T) {
	r := newReadership(t, "LOG_LEVEL=info")
	const line = "Received order created event subscriber=emails"
	for _, batch := range []struct{ events, lines int }{{10, 10}, {11, 0}} {
		before := count(t, r.db, "SELECT count(*) FROM outbox")
		r.record(batch.events)
		r.awaitPublished(before + batch.events)
		reader := r.read("reader")
		large := fmt.Sprintf("handled a batch of events subscriber=emails events=%d", batch.events)
		require.Eventually(t, func() bool {
			return strings.Count(reader.String(), line) >= batch.lines && strings.Contains(reader.String(), large) == (batch.lines == 0)
		}, patience, tick)
		require.Zero(t, reader.Stop(syscall.SIGTERM))
		require.Equal(t, batch.lines, strings.Count(reader.String(), line))
		require.Equal(t, batch.lines == 0, strings.Contains(reader.String(), large), reader)
		r.requireEffects()
	}
}

// TestHealedStream puts an older copy of the broker's store back. The stream heals from the log, and the subscriber, whose
// place in the stream went back too, gets events again that it has applied or set aside: each takes effect once.
func TestHealedStream(t *testing.T) {
	r := newReadership(t, "SUBSCRIBER_MAX_ATTEMPTS=1")
	r.read("reader")
	r.poison()
	before := r.order(poor) // dead, and in the copy
	placeMany(t, r.api, 5)
	r.eventually(applied, 5)
	old := keepStore(t, r.broker, r.store)

	r.pay(before)          // waits
	after := r.order(poor) // dead, and not in the copy
	r.pay(after)
	placeMany(t, r.api, 15)
	r.eventually(applied, 20)
	r.eventually("SELECT count(*) FROM dead_letters", 4)
	rollBack(t, r.broker, r.store, old)

	placeMany(t, r.api, 5)
	r.eventually(applied, 25)
	requireStream(t, r.db, r.broker.URL, "ORDERS")
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead'", 2)
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'waiting'", 2)
	r.cure()
	r.requireCommand(0, "retries 2 dead letters", "retry", "--id", "emails", "--all")
	r.requireEffects()
	require.Zero(t, count(t, r.db, "SELECT count(*) FROM dead_letters"))
}
