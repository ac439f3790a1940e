package e2e_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/embedded"
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
	r := &readership{t: t}
	database := infra.Database(t)
	r.broker = infra.NATS(t, func(o *embedded.NATSOptions) { r.store = o.StoreDir })
	r.environment = append([]string{"DATABASE_URL=" + database, "NATS_URL=" + r.broker.URL, "LOG_LEVEL=debug"}, settings...)
	var err error
	r.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.db.Close() })
	r.api = infra.Serve(t, "app", r.environment).API()
	return r
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
		SELECT aggregate_version, lag(aggregate_version) OVER (PARTITION BY aggregate_id ORDER BY applied_at) AS before
		FROM inbox WHERE applied_at IS NOT NULL) AS i WHERE aggregate_version < before`), "in order within each order")
}

// requireInOrder requires that effects happened in the order of the log.
func (r *readership) requireInOrder() {
	r.t.Helper()
	require.Zero(r.t, count(r.t, r.db, `SELECT count(*) FROM (
		SELECT position, lag(position) OVER (ORDER BY applied_at) AS before FROM inbox) AS i WHERE position < before`))
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

// TestStalledSubscriber freezes the copy of a subscriber that has an event in hand, in the middle of its transaction and for
// longer than the acknowledgement wait. The other copy takes over, each event takes effect once and in order, and the first
// copy is of use again afterwards.
func TestStalledSubscriber(t *testing.T) {
	r := newReadership(t)
	copies := map[string]*infra.Process{"one": r.read("one"), "two": r.read("two")}
	for range 10 {
		r.pay(r.order(infra.Customer))
	}
	r.requireEffects()
	release, who := r.holdUp(infra.Customer)
	held := r.order(infra.Customer)
	stalled := who()
	copies[stalled].Signal(syscall.SIGSTOP)
	release()
	r.pay(held)
	placeMany(t, r.api, 10)
	began := time.Now()
	r.requireEffects()
	t.Logf("%s was frozen with an event in hand; the other copy went on after %s", stalled, time.Since(began).Round(100*time.Millisecond))
	copies[stalled].Signal(syscall.SIGCONT)
	placeMany(t, r.api, 10)
	r.requireEffects()
	for name, p := range copies {
		if name != stalled {
			p.Kill()
		}
	}
	placeMany(t, r.api, 10)
	r.requireEffects()
	r.requireInOrder()
}

// TestCrashBetweenEffectAndAcknowledgement kills a subscriber that has committed an effect while the broker was away: the
// event comes again and is dropped.
func TestCrashBetweenEffectAndAcknowledgement(t *testing.T) {
	r := newReadership(t)
	first := r.read("first")
	r.order(infra.Customer)
	r.requireEffects()
	release, who := r.holdUp(infra.Customer)
	r.order(infra.Customer)
	who()
	r.broker.Stop()
	release()
	first.Says("cannot acknowledge an event")
	r.eventually(applied, 2)
	first.Kill()
	r.broker.Start()
	second := r.read("second")
	second.Says("dropped an event that was dealt with before")
	placeMany(t, r.api, 5)
	r.requireEffects()
	r.requireInOrder()
}

const poor = "018f0000-0000-7000-8000-00000000000f" // a customer whose total overflows

func (r *readership) poison() {
	r.t.Helper()
	_, err := r.db.Exec(`INSERT INTO customer_totals VALUES ('emails', $1, 'USD', 9223372036854775807, 0)
		ON CONFLICT (subscriber, customer_id, currency) DO UPDATE SET amount_minor = excluded.amount_minor`, poor)
	require.NoError(r.t, err)
}

func (r *readership) cure() {
	r.t.Helper()
	_, err := r.db.Exec("UPDATE customer_totals SET amount_minor = 0 WHERE customer_id = $1", poor)
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

// TestPoisonEvent goes through the life of a dead letter, as the operator sees it.
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
	placeMany(t, r.api, 3)
	r.eventually(applied, 6)
	id := reader.Says(`retry="outboxie subscriber retry --id emails --event `)
	id = strings.TrimSuffix(id, `"`)
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'waiting'", 1)
	require.Contains(t, ready(t, reader), `"status":"degraded"`)
	require.Contains(t, ready(t, reader), "1 dead; `outboxie subscriber dead --id emails` lists them")
	list := r.requireCommand(0, id, "dead", "--id", "emails")
	require.Regexp(t, `dead +\S+s +3 +1 +.*bigint out of range`, list)

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
	r.eventually("SELECT count(*) FROM dead_letters WHERE state = 'waiting'", 1)
	require.NoError(t, r.db.QueryRow("SELECT event_id FROM dead_letters WHERE state = 'dead'").Scan(&id))
	said := r.requireCommand(2, "say --yes", "discard", "--id", "emails", "--event", id)
	require.Contains(t, said, "behind which 1 events wait")
	r.requireCommand(0, "Discarded", "discard", "--id", "emails", "--event", id, "--yes")
	r.requireCommand(1, "was discarded", "discard", "--id", "emails", "--event", id, "--yes")
	r.requireEffects()
}

// TestForeignMessage : what somebody else wrote is set aside with its bytes, and holds up nothing.
func TestForeignMessage(t *testing.T) {
	r := newReadership(t)
	reader := r.read("reader")
	placeMany(t, r.api, 2)
	r.requireEffects()
	nc, err := nats.Connect(r.broker.URL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.PublishMsg(t.Context(), &nats.Msg{Subject: "orders.created", Data: []byte{0, 1, 255}, Header: nats.Header{"Who": {"me", "you"}}})
	require.NoError(t, err)
	placeMany(t, r.api, 2)
	r.requireEffects()
	id := reader.Says("a message is no event that can be read, it is set aside and everything else goes on subscriber=emails event_id=")
	require.True(t, strings.HasPrefix(id, "unreadable-3-"), id)
	var payload []byte
	var headers string
	require.NoError(t, r.db.QueryRow("SELECT payload, headers FROM dead_letters WHERE event_id = $1", id).Scan(&payload, &headers))
	require.Equal(t, []byte{0, 1, 255}, payload)
	require.JSONEq(t, `{"Who": "me\nyou"}`, headers)
	r.requireCommand(1, "it can only be discarded", "retry", "--id", "emails", "--event", id)
	r.requireCommand(0, "Discarded", "discard", "--id", "emails", "--event", id, "--yes")
	require.Contains(t, ready(t, reader), `"status":"ready"`)
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
