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
	"github.com/assylzhan-a/outboxie/test/damage"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// subscription is one instance and its servers, for which a test runs copies of the subscriber emails.
type subscription struct {
	t           *testing.T
	db          *sql.DB
	broker      *infra.NATSServer
	store       string // the broker's folder
	environment []string
	api         string
}

func newSubscription(t *testing.T, settings ...string) *subscription {
	t.Helper()
	return newSubscriptionOn(t, infra.Database(t), settings...)
}

func newSubscriptionOn(t *testing.T, database string, settings ...string) *subscription {
	t.Helper()
	s := &subscription{t: t}
	s.broker = infra.NATS(t, func(o *embedded.NATSOptions) { s.store = o.StoreDir })
	s.environment = append([]string{"DATABASE_URL=" + database, "NATS_URL=" + s.broker.URL, "LOG_LEVEL=debug"}, settings...)
	var err error
	s.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.db.Close() })
	s.api = infra.Serve(t, "app", s.environment).API()
	return s
}

// record writes this number of created orders into the log with one statement, each of a new customer.
func (s *subscription) record(orders int) {
	s.t.Helper()
	_, err := s.db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', id, 1, 'outboxie.order.created.v1', 'orders.created', json_build_object('order_id', id,
			'customer_id', gen_random_uuid(), 'amount', '100.50', 'currency', 'USD', 'status', 'created', 'version', 1, 'created_at', now())
		FROM (SELECT gen_random_uuid()::text AS id FROM generate_series(1, $1)) AS o`, orders)
	require.NoError(s.t, err)
}

// startCopy starts a copy of the subscriber.
func (s *subscription) startCopy(instance string) *infra.Process {
	return infra.Launch(s.t, append([]string{"INSTANCE_ID=" + instance, "ADMIN_ADDR=127.0.0.1:0"}, s.environment...), "subscribe", "--id", "emails")
}

// order places an order for a customer.
func (s *subscription) order(customer string) infra.Order {
	s.t.Helper()
	order, err := infra.PlaceFor(s.api, customer)
	require.NoError(s.t, err)
	return order
}

func (s *subscription) pay(order infra.Order) {
	s.t.Helper()
	_, err := infra.Transition(s.api, order.ID, "pay")
	require.NoError(s.t, err)
}

func (s *subscription) eventually(query string, want int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return count(s.t, s.db, query) == want }, waitTimeout, 5*time.Millisecond, "%s is never %d", query, want)
}

// awaitPublished waits until the stream has this number of messages.
func (s *subscription) awaitPublished(messages int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return published(s.t, s.broker.URL) == uint64(messages) }, waitTimeout, tick)
}

const applied = "SELECT count(*) FROM inbox WHERE subscriber = 'emails' AND applied_at IS NOT NULL"

// requireEffects waits until every event except the discarded ones took effect. It requires that each took effect once, in the order of
// versions.
func (s *subscription) requireEffects() {
	s.t.Helper()
	const discarded = "SELECT 1 FROM dead_letters AS d WHERE d.state = 'discarded' AND d.event_id = o.event_id::text"
	events := count(s.t, s.db, "SELECT count(*) FROM outbox AS o WHERE NOT EXISTS ("+discarded+")")
	s.eventually(applied, events)
	created := count(s.t, s.db, "SELECT count(*) FROM outbox AS o WHERE aggregate_version = 1 AND NOT EXISTS ("+discarded+")")
	require.Equal(s.t, created, count(s.t, s.db, "SELECT coalesce(sum(orders), 0) FROM customer_totals WHERE subscriber = 'emails'"))
	require.Zero(s.t, count(s.t, s.db, `SELECT count(*) FROM (
		SELECT aggregate_version, lag(aggregate_version) OVER (PARTITION BY aggregate_id ORDER BY applied_at, aggregate_version) AS before
		FROM inbox WHERE applied_at IS NOT NULL) AS i WHERE aggregate_version < before`), "in order within each order")
}

// requireInOrder requires that effects happened in the order of the log.
func (s *subscription) requireInOrder() {
	s.t.Helper()
	require.Zero(s.t, count(s.t, s.db, `SELECT count(*) FROM (
		SELECT position, lag(position) OVER (ORDER BY applied_at, position) AS before FROM inbox) AS i WHERE position < before`))
}

// holdUp locks the total of a customer who has ordered before, so that the effect of the next order waits. release unlocks it. who waits until a
// copy of the subscriber is held up, and returns its name.
func (s *subscription) holdUp(customer string) (release func(), who func() string) {
	s.t.Helper()
	tx, err := s.db.Begin()
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = tx.Rollback() })
	_, err = tx.Exec("SELECT FROM customer_totals WHERE customer_id = $1 FOR UPDATE", customer)
	require.NoError(s.t, err)
	return func() { require.NoError(s.t, tx.Rollback()) }, func() (name string) {
		s.t.Helper()
		require.Eventually(s.t, func() bool {
			return s.db.QueryRow(`SELECT application_name FROM pg_stat_activity WHERE datname = current_database()
				AND wait_event_type = 'Lock' AND query LIKE '%customer_totals%'`).Scan(&name) == nil
		}, waitTimeout, 5*time.Millisecond)
		return name
	}
}

const refusedCustomer = "018f0000-0000-7000-8000-00000000000f" // a customer whose total can be refused

// refuseTotals makes the handler fail for the orders of refusedCustomer, until repairTotals. The error is one that a retry may heal.
func (s *subscription) refuseTotals() {
	s.t.Helper()
	_, err := s.db.Exec(`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no credit'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON customer_totals FOR EACH ROW WHEN (NEW.customer_id = '` + refusedCustomer + `') EXECUTE FUNCTION refuse()`)
	require.NoError(s.t, err)
}

func (s *subscription) repairTotals() {
	s.t.Helper()
	_, err := s.db.Exec("DROP TRIGGER refuse ON customer_totals")
	require.NoError(s.t, err)
}

// command runs the program until it ends.
func (s *subscription) command(args ...string) (code int, said string) {
	s.t.Helper()
	cmd := exec.Command(infra.Binary(s.t), args...)
	cmd.Env = append(os.Environ(), s.environment...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(s.t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (s *subscription) requireCommand(code int, says string, args ...string) string {
	s.t.Helper()
	got, said := s.command(append([]string{"subscriber"}, args...)...)
	require.Equal(s.t, code, got, said)
	require.Contains(s.t, said, says)
	return said
}

// ready returns the answer of /readyz, and requires that the process is ready.
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

// TestPoisonEvent checks that an operator sees a dead letter, retries it and discards it, and that other orders of the lane do not wait.
func TestPoisonEvent(t *testing.T) {
	s := newSubscription(t, "SUBSCRIBER_MAX_ATTEMPTS=3")
	reader := s.startCopy("reader")
	placeMany(t, s.api, 3)
	s.requireEffects()
	require.Contains(t, ready(t, reader), `"status":"ready"`)
	s.requireCommand(0, "Subscriber emails has no dead letters.", "dead", "--id", "emails")
	s.requireCommand(1, "known subscribers: emails", "dead", "--id", "email")

	s.refuseTotals()
	order := s.order(refusedCustomer)
	s.pay(order)
	began := time.Now()
	placeMany(t, s.api, 3)
	s.eventually(applied, 6)
	t.Logf("others of the lane went on after %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 3*time.Second, "nobody waits for an event that fails")
	id := reader.WaitFor(`retry="outboxie subscriber retry --id emails --event `)
	id = strings.TrimSuffix(id, `"`)
	s.eventually("SELECT count(*) FROM dead_letters WHERE state = 'waiting'", 1)
	require.Contains(t, ready(t, reader), `"status":"degraded"`)
	require.Contains(t, ready(t, reader), "1 dead; `outboxie subscriber dead --id emails` lists them")
	list := s.requireCommand(0, id, "dead", "--id", "emails")
	require.Regexp(t, `dead +\S+s +3 +1 +.*no credit`, list)

	s.requireCommand(0, "retries event "+id, "retry", "--id", "emails", "--event", id)
	s.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead' AND attempts = 3", 1)
	var listed []struct {
		EventID string          `json:"event_id"`
		State   string          `json:"state"`
		Error   string          `json:"error"`
		Behind  int             `json:"behind"`
		Payload json.RawMessage `json:"payload"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.requireCommand(0, "", "dead", "--id", "emails", "--json")), &listed))
	require.Len(t, listed, 1)
	require.Equal(t, id, listed[0].EventID)
	require.Equal(t, 1, listed[0].Behind)
	require.Contains(t, string(listed[0].Payload), order.ID)

	s.repairTotals()
	s.requireCommand(0, "retries 1 dead letter", "retry", "--id", "emails", "--all")
	s.requireEffects()
	require.Contains(t, ready(t, reader), `"status":"ready"`)
	s.requireCommand(1, "has no dead letter "+id, "retry", "--id", "emails", "--event", id)
	s.requireCommand(2, "either --event ID or --all", "retry", "--id", "emails")

	s.refuseTotals()
	s.pay(s.order(refusedCustomer))
	s.eventually("SELECT count(*) FROM dead_letters WHERE state IN ('dead', 'waiting')", 2)
	require.NoError(t, s.db.QueryRow("SELECT event_id FROM dead_letters WHERE state = 'dead'").Scan(&id))
	said := s.requireCommand(2, "repeat the command with --yes", "discard", "--id", "emails", "--event", id)
	require.Contains(t, said, "behind which 1 event waits")
	s.requireCommand(0, "Discarded", "discard", "--id", "emails", "--event", id, "--yes")
	s.requireCommand(1, "was discarded", "discard", "--id", "emails", "--event", id, "--yes")
	s.requireEffects()
}

// TestWhatCannotHealIsDeadAtOnce checks that an event that no retry can heal fails only once. Nobody can read the payload of the first such
// event. The effect of the second violates a check. The other events of their batch are applied. A sum beyond 64 bits does not fail.
func TestWhatCannotHealIsDeadAtOnce(t *testing.T) {
	s := newSubscription(t)
	_, err := s.db.Exec(`ALTER TABLE customer_totals ADD CONSTRAINT solvent CHECK (customer_id <> '` + refusedCustomer + `');
		INSERT INTO customer_totals (subscriber, customer_id, currency, amount_minor, orders)
		VALUES ('emails', '` + infra.Customer + `', 'USD', 9223372036854775807, 0)`)
	require.NoError(t, err)
	nonsense := s.order(infra.Customer)
	_, err = s.db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', $1, 2, 'outboxie.order.paid.v1', 'orders.paid', '"nonsense"')`, nonsense.ID)
	require.NoError(t, err)
	s.order(refusedCustomer)
	s.order(infra.Customer)
	s.awaitPublished(4)
	began := time.Now()
	s.startCopy("reader")
	s.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead' AND attempts = 1", 2)
	s.eventually(applied, 2)
	t.Logf("two were dead, and two applied, %s after the start", time.Since(began).Round(time.Millisecond))
	var sum string
	require.NoError(t, s.db.QueryRow("SELECT amount_minor + amount FROM customer_totals WHERE customer_id = $1", infra.Customer).Scan(&sum))
	require.Equal(t, "9223372036854795907", sum)
}

// TestForeignMessage checks that a message of another program is set aside with its bytes and holds up nothing, even if it has the headers of a
// broker's answer.
func TestForeignMessage(t *testing.T) {
	s := newSubscription(t)
	reader := s.startCopy("reader")
	placeMany(t, s.api, 2)
	s.requireEffects()
	js, done := connect(t, s.broker.URL)
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
	placeMany(t, s.api, 2)
	s.requireEffects()
	s.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead' AND attempts = 1", 5)
	id := reader.WaitFor("a message cannot be read as an event; it is a dead letter now subscriber=emails event_id=")
	require.True(t, strings.HasPrefix(id, "unreadable-3-"), id)
	var payload []byte
	var headers string
	require.NoError(t, s.db.QueryRow("SELECT payload, headers FROM dead_letters WHERE event_id = $1", id).Scan(&payload, &headers))
	require.Equal(t, []byte{0, 1, 255}, payload)
	require.JSONEq(t, `{"Who": "me\nyou"}`, headers)
	s.requireCommand(1, "it can only be discarded", "retry", "--id", "emails", "--event", id)
	for rows := count(t, s.db, "SELECT count(*) FROM dead_letters"); rows > 0; rows-- {
		require.NoError(t, s.db.QueryRow("SELECT event_id FROM dead_letters WHERE state = 'dead' LIMIT 1").Scan(&id))
		s.requireCommand(0, "Discarded", "discard", "--id", "emails", "--event", id, "--yes")
	}
	require.Contains(t, ready(t, reader), `"status":"ready"`)
}

// TestReceivedIsLogged checks that each event of a batch of ten has a line in the log. A larger batch has one line for all its events.
func TestReceivedIsLogged(t *testing.T) {
	s := newSubscription(t, "LOG_LEVEL=info")
	const line = "Received order created event subscriber=emails"
	for _, batch := range []struct{ events, lines int }{{10, 10}, {11, 0}} {
		before := count(t, s.db, "SELECT count(*) FROM outbox")
		s.record(batch.events)
		s.awaitPublished(before + batch.events)
		reader := s.startCopy("reader")
		large := fmt.Sprintf("handled a batch of events subscriber=emails events=%d", batch.events)
		require.Eventually(t, func() bool {
			return strings.Count(reader.String(), line) >= batch.lines && strings.Contains(reader.String(), large) == (batch.lines == 0)
		}, waitTimeout, tick)
		require.Zero(t, reader.Stop(syscall.SIGTERM))
		require.Equal(t, batch.lines, strings.Count(reader.String(), line))
		require.Equal(t, batch.lines == 0, strings.Contains(reader.String(), large), reader)
		s.requireEffects()
	}
}

// TestHealedStream checks that each event takes effect once after an older copy of the broker's store is put back. The stream heals from
// the log, and the subscriber reads again events that it has applied or set aside.
func TestHealedStream(t *testing.T) {
	s := newSubscription(t, "SUBSCRIBER_MAX_ATTEMPTS=1")
	s.startCopy("reader")
	s.refuseTotals()
	before := s.order(refusedCustomer) // dead, and in the copy
	placeMany(t, s.api, 5)
	s.eventually(applied, 5)
	old := damage.KeepStore(t, s.broker, s.store)

	s.pay(before)                     // waits
	after := s.order(refusedCustomer) // dead, and not in the copy
	s.pay(after)
	placeMany(t, s.api, 15)
	s.eventually(applied, 20)
	s.eventually("SELECT count(*) FROM dead_letters", 4)
	damage.RollBack(t, s.broker, s.store, old)

	placeMany(t, s.api, 5)
	s.eventually(applied, 25)
	requireStream(t, s.db, s.broker.URL, "ORDERS")
	s.eventually("SELECT count(*) FROM dead_letters WHERE state = 'dead'", 2)
	s.eventually("SELECT count(*) FROM dead_letters WHERE state = 'waiting'", 2)
	s.repairTotals()
	s.requireCommand(0, "retries 2 dead letters", "retry", "--id", "emails", "--all")
	s.requireEffects()
	require.Zero(t, count(t, s.db, "SELECT count(*) FROM dead_letters"))
}
