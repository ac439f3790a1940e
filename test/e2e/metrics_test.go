package e2e_test

import (
	"database/sql"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// watched is two instances and a subscriber. The first instance leads. A test watches them through their /metrics.
type watched struct {
	t           *testing.T
	db          *sql.DB
	broker      *infra.NATSServer
	environment []string

	first, second, subscriber     *infra.Process
	api, leader, follower, emails string                 // addresses
	rescrape                      func(admins ...string) // has Prometheus scrape these instead
}

func newWatched(t *testing.T, settings ...string) *watched {
	t.Helper()
	database := infra.Database(t)
	w := &watched{t: t, broker: infra.NATS(t)}
	w.environment = append([]string{"DATABASE_URL=" + database, "NATS_URL=" + w.broker.URL}, settings...)
	var err error
	w.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.db.Close() })
	w.first = infra.Serve(t, "first", w.environment)
	w.first.WaitFor("created the stream")
	w.api, w.leader = w.first.API(), w.first.Admin()
	w.second = infra.Serve(t, "second", w.environment)
	w.follower = w.second.Admin()
	w.subscribe()
	return w
}

func (w *watched) subscribe() {
	w.subscriber = infra.Launch(w.t, append([]string{"INSTANCE_ID=copy", "ADMIN_ADDR=127.0.0.1:0"}, w.environment...), "subscribe", "--id", "emails")
	w.emails = w.subscriber.Admin()
}

// clone appends a copy of the first event for another order. If payload is not empty, the copy gets this payload.
func (w *watched) clone(tx interface {
	Exec(query string, args ...any) (sql.Result, error)
}, order string, version int, payload string,
) {
	w.t.Helper()
	_, err := tx.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
		SELECT gen_random_uuid(), aggregate_type, $1, $2, event_type, subject, headers, coalesce(nullif($3, '')::json, payload)
		FROM outbox WHERE position = 1`, order, version, payload)
	require.NoError(w.t, err)
}

// command runs a command of the program, which must succeed.
func (w *watched) command(args ...string) string {
	w.t.Helper()
	said, err := infra.Outboxie(w.t, w.environment, args...)
	require.NoError(w.t, err, said)
	return said
}

func (w *watched) waitForSample(admin string, value float64, name string, labels ...string) {
	w.t.Helper()
	infra.WaitForSample(w.t, admin, value, name, labels...)
}

const emails = "messaging_consumer_group_name=emails"

// TestMetrics checks that each metric has the expected value after a known workload, and that docs/metrics.md lists exactly the metrics
// that are exported.
func TestMetrics(t *testing.T) {
	w := newWatched(t, "SUBSCRIBER_MAX_ATTEMPTS=2")
	w.delivered()
	w.heldUp()
	w.parked()
	w.poisoned()
	w.behind()
	w.overtaken()
	w.readAgain()
	w.documented()
	w.halted()
	w.handedOver()
}

func (w *watched) delivered() {
	t := w.t
	placeMany(t, w.api, 4)
	order, err := infra.Place(w.api)
	require.NoError(t, err)
	_, err = infra.Transition(w.api, order.ID, "pay")
	require.NoError(t, err)
	for _, url := range []string{"/orders/550e8400-e29b-41d4-a716-446655440000", "/nowhere"} {
		answer, err := http.Get("http://" + w.api + url)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
	}
	w.waitForSample(w.emails, 6, "outboxie_subscriber_latency_seconds_count", emails)
	w.waitForSample(w.leader, 0, "outboxie_outbox_backlog")
	w.waitForSample(w.leader, 0, "outboxie_subscriber_lag", emails)
	w.deliveredByTheLeader(infra.Scrape(t, w.leader))

	s := infra.Scrape(t, w.follower)
	require.Zero(t, s.Value(t, "outboxie_relay_leader"))
	require.Zero(t, s.Value(t, "outboxie_relay_elections_total"))
	for _, leaders := range []string{"outboxie_relay_term", "outboxie_outbox_backlog", "outboxie_subscriber_lag", "outboxie_parking_events"} {
		require.Empty(t, s.Find(leaders), "%s is the leader's to tell", leaders)
	}

	s = infra.Scrape(t, w.emails)
	require.EqualValues(t, 6, s.Value(t, "messaging_client_consumed_messages_total", emails))
	require.EqualValues(t, 6, s.Value(t, "messaging_process_duration_seconds_count", emails, "error_type="))
	require.EqualValues(t, 6, s.Value(t, "outboxie_subscriber_batch_events_sum", emails))
	require.Equal(t, s.Value(t, "outboxie_subscriber_batch_events_count", emails),
		s.Value(t, "outboxie_subscriber_batch_duration_seconds_count", emails))
	for _, none := range []string{
		"outboxie_subscriber_rewinds_total", "outboxie_inbox_duplicates_total", "outboxie_subscriber_passed_over_total", "outboxie_subscriber_dead_letters",
	} {
		require.Zero(t, s.Value(t, none, emails), none)
	}
	for _, reason := range []string{"event_failed", "writes_failed", "lane_moved", "unavailable", "other"} {
		require.Zero(t, s.Value(t, "outboxie_subscriber_retries_total", emails, "outboxie_retry_reason="+reason), reason)
	}
	require.Empty(t, s.Find("outboxie_relay_leader"))
}

func (w *watched) deliveredByTheLeader(s infra.Samples) {
	t := w.t
	for _, answered := range []struct {
		method, route, status string
		count                 float64
	}{
		{"POST", "/orders", "201", 5},
		{"POST", "/orders/:id/pay", "200", 1},
		{"GET", "/orders/:id", "404", 1},
		{"GET", "", "404", 1},
	} {
		require.Equal(t, answered.count, s.Value(t, "http_server_request_duration_seconds_count", "http_request_method="+answered.method,
			"url_scheme=http", "http_route="+answered.route, "http_response_status_code="+answered.status))
	}
	require.Len(t, s.Find("http_server_request_duration_seconds_count", "http_route=/orders")[0].Labels, 4, "nothing that a client chooses")
	require.EqualValues(t, 6, s.Value(t, "outboxie_outbox_wait_seconds_count"))
	require.Less(t, s.Value(t, "outboxie_outbox_wait_seconds_sum"), 6*waitTimeout.Seconds())
	require.EqualValues(t, 6, s.Value(t, "messaging_client_sent_messages_total", "messaging_operation_name=send", "error_type="))
	require.EqualValues(t, 6, s.Value(t, "outboxie_relay_batch_size_sum"))
	require.Equal(t, s.Value(t, "outboxie_relay_batch_size_count"),
		s.Value(t, "messaging_client_operation_duration_seconds_count", "messaging_operation_name=send", "error_type="))
	for name, value := range map[string]float64{
		"leader": 1, "term": 1, "elections_total": 1, "takeovers_total": 1, "conflicts_total": 0, "heals_total": 0,
	} {
		require.Equal(t, value, s.Value(t, "outboxie_relay_"+name), name)
	}
	require.Len(t, s.Find("outboxie_relay_halted"), 9)
	require.Zero(t, s.Value(t, "outboxie_relay_halted", "outboxie_halt_reason=tail_gone"))
	require.Zero(t, s.Value(t, "outboxie_outbox_oldest_unpublished_age_seconds"))
	require.EqualValues(t, 6, s.Value(t, "outboxie_outbox_size"))
	require.Zero(t, s.Value(t, "outboxie_parking_events"))
	require.EqualValues(t, 16, s.Value(t, "db_client_connection_max", "db_client_connection_pool_name=main"))
	require.EqualValues(t, 2, s.Value(t, "db_client_connection_max", "db_client_connection_pool_name=lease"))
	require.Positive(t, s.Value(t, "db_client_connection_count", "db_client_connection_pool_name=main", "db_client_connection_state=idle"))
	require.EqualValues(t, 1, s.Value(t, "outboxie_nats_connected"))
	require.Positive(t, s.Value(t, "go_goroutine_count"))
	require.Equal(t, "first", s.Find("target_info")[0].Labels["service_instance_id"])
}

// heldUp leaves a transaction open that has written position 7, and places an order after it.
func (w *watched) heldUp() {
	tx, err := w.db.Begin()
	require.NoError(w.t, err)
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	w.clone(tx, "11111111-1111-1111-1111-111111111111", 1, "")
	placeMany(w.t, w.api, 1)
	time.Sleep(time.Second)
	w.waitForSample(w.leader, 2, "outboxie_outbox_backlog")
	s := infra.Scrape(w.t, w.leader)
	require.Greater(w.t, s.Value(w.t, "outboxie_outbox_oldest_unpublished_age_seconds"), 0.9)
	require.Greater(w.t, s.Value(w.t, "outboxie_outbox_oldest_writer_age_seconds"), 0.9)
	require.NoError(w.t, tx.Commit())
	w.waitForSample(w.leader, 0, "outboxie_outbox_backlog")
	w.waitForSample(w.leader, 0, "outboxie_outbox_oldest_writer_age_seconds")
	s = infra.Scrape(w.t, w.leader)
	require.GreaterOrEqual(w.t, s.Value(w.t, "outboxie_outbox_gap_waits_total"), 1.0)
	require.Greater(w.t, s.Value(w.t, "outboxie_outbox_gap_wait_time_seconds_total"), 0.9)
	w.waitForSample(w.emails, 8, "outboxie_subscriber_latency_seconds_count", emails)
}

// parked writes an event that is too large at position 9, and another one of the same order at position 10.
func (w *watched) parked() {
	const order = "22222222-2222-2222-2222-222222222222"
	w.clone(w.db, order, 1, `"`+strings.Repeat("x", 2<<20)+`"`)
	w.clone(w.db, order, 2, "")
	w.waitForSample(w.leader, 2, "outboxie_parking_events")
	s := infra.Scrape(w.t, w.leader)
	require.EqualValues(w.t, 1, s.Value(w.t, "outboxie_parking_aggregates"))
	require.EqualValues(w.t, 1, s.Value(w.t, "messaging_client_operation_duration_seconds_count", "messaging_operation_name=notify"))
	require.Positive(w.t, s.Value(w.t, "messaging_client_sent_messages_total", "messaging_operation_name=send", "error_type=refused"))
	w.command("outbox", "discard", "--position", "9", "--yes")
	w.command("outbox", "redrive", "--all")
	w.waitForSample(w.leader, 0, "outboxie_parking_events")
	w.waitForSample(w.leader, 1, "messaging_client_sent_messages_total", "messaging_operation_name=redrive")
	w.waitForSample(w.emails, 9, "outboxie_subscriber_latency_seconds_count", emails)
	require.EqualValues(w.t, 8, infra.Scrape(w.t, w.leader).Value(w.t, "outboxie_outbox_wait_seconds_count"), "without the redriven one")
}

// poisoned writes an event that cannot be decoded. It fails twice: in the batch, and again within a savepoint. Then it is dead.
func (w *watched) poisoned() {
	w.clone(w.db, "33333333-3333-3333-3333-333333333333", 1, `"nonsense"`)
	w.waitForSample(w.emails, 1, "outboxie_subscriber_dead_letters", emails)
	w.waitForSample(w.emails, 1, "outboxie_subscriber_retries_total", emails, "outboxie_retry_reason=event_failed")
	w.waitForSample(w.emails, 1, "outboxie_subscriber_set_aside_total", emails, "outboxie_set_aside_reason=failed")
	w.waitForSample(w.emails, 2, "messaging_process_duration_seconds_count", emails, "error_type=unreadable_event")
}

// behind stops the subscriber, and checks that the leader reports how far it is behind.
func (w *watched) behind() {
	require.Zero(w.t, w.subscriber.Stop(syscall.SIGTERM))
	placeMany(w.t, w.api, 3)
	time.Sleep(time.Second)
	w.waitForSample(w.leader, 3, "outboxie_subscriber_lag", emails)
	require.Greater(w.t, infra.Scrape(w.t, w.leader).Value(w.t, "outboxie_subscriber_oldest_unhandled_age_seconds", emails), 0.9)
	w.subscribe()
	w.waitForSample(w.leader, 0, "outboxie_subscriber_lag", emails)
	w.waitForSample(w.leader, 0, "outboxie_subscriber_oldest_unhandled_age_seconds", emails)
}

// overtaken publishes into the stream, so that the relay's next append conflicts, unless the relay read the stream in between.
func (w *watched) overtaken() {
	js, done := connect(w.t, w.broker.URL)
	defer done()
	require.Eventually(w.t, func() bool {
		_, err := js.Publish(w.t.Context(), "outboxie.ORDERS.notices", []byte("not the engine's"))
		require.NoError(w.t, err)
		placeMany(w.t, w.api, 1)
		s := infra.Scrape(w.t, w.leader)
		return s.Value(w.t, "outboxie_relay_conflicts_total") > 0 && s.Value(w.t, "outboxie_relay_takeovers_total") > 1
	}, waitTimeout, 10*time.Millisecond)
	w.waitForSample(w.leader, 0, "outboxie_outbox_backlog")
	require.EqualValues(w.t, 1, infra.Scrape(w.t, w.leader).Value(w.t, "outboxie_relay_elections_total"))
}

// readAgain sets the checkpoint back while the subscriber works. The subscriber reads all events again, and the effects do not change.
func (w *watched) readAgain() {
	events := count(w.t, w.db, "SELECT count(*) FROM outbox") - 1 // one was discarded in the parking lot
	dead := 1
	require.Eventually(w.t, func() bool { return count(w.t, w.db, applied) == events-dead }, waitTimeout, 10*time.Millisecond)
	s := infra.Scrape(w.t, w.emails)
	before := s.Value(w.t, "outboxie_subscriber_latency_seconds_count", emails)
	require.Zero(w.t, s.Value(w.t, "outboxie_inbox_duplicates_total", emails))
	_, err := w.db.Exec("UPDATE subscriber_lanes SET sequence = 0, stored_ns = 0, revision = revision + 1 WHERE subscriber = 'emails'")
	require.NoError(w.t, err)
	placeMany(w.t, w.api, 1)
	w.waitForSample(w.emails, before+1, "outboxie_subscriber_latency_seconds_count", emails)
	w.waitForSample(w.emails, float64(events), "outboxie_inbox_duplicates_total", emails)
	w.waitForSample(w.emails, 1, "outboxie_subscriber_retries_total", emails, "outboxie_retry_reason=lane_moved")
}

// catalog returns the tables of docs/metrics.md.
func catalog(t *testing.T) (found struct {
	kinds map[string]string // by the names that Prometheus shows
	names []string          // the names of the metrics that are pushed
},
) {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	found.kinds = make(map[string]string)
	suffixes := map[string]string{"s": "_seconds", "By": "_bytes", "%": "_percent"}
	rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (?:`([a-z._]+)`)? ?\\| ([a-z]+)(?:, ([^ ]+))? ")
	for _, row := range rows.FindAllStringSubmatch(string(text), -1) {
		shown, name, kind, unit := row[1], row[2], row[3], row[4]
		found.kinds[shown] = kind
		if name == "" {
			continue
		}
		found.names = append(found.names, name)
		name = strings.ReplaceAll(name, ".", "_") + suffixes[unit]
		if kind == "counter" {
			name += "_total"
		}
		require.Equal(t, shown, name)
	}
	return found
}

// documented checks that docs/metrics.md lists exactly the metrics that are exported, with their kinds.
func (w *watched) documented() {
	kinds := catalog(w.t).kinds
	delete(kinds, "go_memory_limit_bytes") // is not set here
	shown := make(map[string]string)
	for _, sample := range slices.Concat(infra.Scrape(w.t, w.leader), infra.Scrape(w.t, w.emails)) {
		shown[sample.Metric] = sample.Kind
	}
	require.Equal(w.t, shown, kinds)
}

func (w *watched) halted() {
	js, done := connect(w.t, w.broker.URL)
	defer done()
	require.NoError(w.t, js.DeleteStream(w.t.Context(), "ORDERS"))
	w.waitForSample(w.leader, 1, "outboxie_relay_halted", "outboxie_halt_reason=stream_missing")
	s := infra.Scrape(w.t, w.leader)
	require.Zero(w.t, s.Value(w.t, "outboxie_relay_halted", "outboxie_halt_reason=tail_gone"))
	require.Zero(w.t, s.Value(w.t, "outboxie_relay_leader"), "it lets others lead")
	w.command("outbox", "adopt", "--yes")
	w.waitForSample(w.leader, 0, "outboxie_relay_halted", "outboxie_halt_reason=stream_missing")
}

func (w *watched) handedOver() {
	var led, before float64
	require.Eventually(w.t, func() bool { // since the halt, either of them may lead
		led = infra.Scrape(w.t, w.leader).Value(w.t, "outboxie_relay_leader")
		follower := infra.Scrape(w.t, w.follower)
		before = follower.Value(w.t, "outboxie_relay_elections_total")
		return led+follower.Value(w.t, "outboxie_relay_leader") == 1
	}, waitTimeout, 20*time.Millisecond)
	require.Zero(w.t, w.first.Stop(syscall.SIGTERM))
	w.waitForSample(w.follower, 1, "outboxie_relay_leader")
	w.waitForSample(w.follower, before+led, "outboxie_relay_elections_total")
	require.Greater(w.t, infra.Scrape(w.t, w.follower).Value(w.t, "outboxie_relay_term"), 1.0)
	w.waitForSample(w.follower, 0, "outboxie_outbox_backlog")
}

// TestMetricsOfRetention checks that the metrics of retention follow what is removed. The shortest retention is a minute, so the test sets the
// time of the passed events back.
func TestMetricsOfRetention(t *testing.T) {
	w := newWatched(t, "OUTBOX_RETENTION=1m")
	placeMany(t, w.api, 3)
	require.Eventually(t, func() bool {
		_, err := w.db.Exec("UPDATE outbox_cursor SET passed_at = passed_at - interval '1 minute'")
		require.NoError(t, err)
		return infra.Scrape(t, w.leader).Value(t, "outboxie_retention_removed_total") == 3
	}, waitTimeout, 100*time.Millisecond)
	w.waitForSample(w.leader, 0, "outboxie_outbox_size")
	require.Zero(t, infra.Scrape(t, w.leader).Value(t, "outboxie_retention_failures_total"))
}

// TestMetricsArePushed checks that metrics arrive over real OTLP: regularly while the program runs, and once more when it stops.
func TestMetricsArePushed(t *testing.T) {
	collector := infra.Collector(t)
	servers := []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.Broker(t)}
	pushing := append(collector.Environment(), "OTEL_METRICS_EXPORTER=otlp", "OTEL_METRIC_EXPORT_INTERVAL=500")
	instance := infra.Serve(t, "pushed", append(pushing, servers...))
	placeMany(t, instance.API(), 2)
	exactly := func(value float64) func(infra.Point) bool {
		return func(p infra.Point) bool { return p.Value == value }
	}
	wait := collector.WaitForPoint(t, "pushed", "outboxie.outbox.wait", exactly(2), waitTimeout)
	require.Equal(t, infra.Point{
		Service: "outboxie", Instance: "pushed", Name: "outboxie.outbox.wait", Unit: "s", Kind: "histogram",
		Attributes: map[string]any{}, Value: 2, Sum: wait.Sum,
	}, wait)
	require.Positive(t, wait.Sum)
	require.Equal(t, "gauge", collector.WaitForPoint(t, "pushed", "outboxie.relay.leader", exactly(1), waitTimeout).Kind)
	sent := collector.WaitForPoint(t, "pushed", "messaging.client.sent.messages", exactly(2), waitTimeout)
	require.Equal(t, "counter", sent.Kind)
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "send", "messaging.operation.type": "send",
		"messaging.destination.name": "ORDERS",
	}, sent.Attributes)
	require.Equal(t, "updowncounter", collector.WaitForPoint(t, "pushed", "db.client.connection.max", exactly(16), waitTimeout).Kind)

	names := catalog(t).names
	for _, point := range collector.Points("") {
		require.Contains(t, names, point.Name)
	}

	last := infra.Serve(t, "seldom", append(append(pushing, servers...), "OTEL_METRIC_EXPORT_INTERVAL=3600000"))
	placeMany(t, last.API(), 1)
	require.Empty(t, collector.WaitForPoint(t, "pushed", "http.server.request.duration", exactly(2), waitTimeout).Attributes["server.address"])
	require.Zero(t, last.Stop(syscall.SIGTERM))
	collector.WaitForPoint(t, "seldom", "http.server.request.duration", exactly(1), waitTimeout)
	for _, point := range collector.Points("outboxie.relay.leader") {
		require.NotEqual(t, "seldom", point.Instance, "what is observed is not observed any more when the program has stopped")
	}
}
