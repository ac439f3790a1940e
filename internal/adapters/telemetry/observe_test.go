package telemetry_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

// registered ends the registration when the test ends.
func registered(t *testing.T) func(metric.Registration, error) {
	return func(registration metric.Registration, err error) {
		t.Helper()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, registration.Unregister()) })
	}
}

// TestAFollowerShowsNothingOfItsTerm checks that a former leader no longer shows its term and its halt. Its counters stay.
func TestAFollowerShowsNothingOfItsTerm(t *testing.T) {
	mp, m := measuring()
	state := telemetry.RelayState{
		Leads: true, Term: 7, Halt: relay.HaltTailGone, Elections: 2, TakeOvers: 5, Heals: 1, GapWaits: 3, GapWaited: time.Second,
	}
	registered(t)(telemetry.ObserveRelay(mp, func() telemetry.RelayState { return state }))
	require.Equal(t, values{"": 1}, m.values(t, "outboxie.relay.leader"))
	require.Equal(t, values{"": 7}, m.values(t, "outboxie.relay.term"))
	halted := m.values(t, "outboxie.relay.halted")
	require.Len(t, halted, len(relay.HaltReasons()))
	for reason, value := range halted {
		require.Equal(t, reason == "outboxie.halt.reason=tail_gone", value == 1, reason)
	}
	counts := map[string]float64{
		"outboxie.relay.elections": 2, "outboxie.relay.takeovers": 5, "outboxie.relay.heals": 1, "outboxie.outbox.gap.waits": 3,
		"outboxie.outbox.gap.wait_time": 1,
	}
	for name, count := range counts {
		require.Equal(t, values{"": count}, m.values(t, name))
	}

	state.Leads, state.Term, state.Halt = false, 0, ""
	require.Equal(t, values{"": 0}, m.values(t, "outboxie.relay.leader"))
	require.Empty(t, m.values(t, "outboxie.relay.term"))
	for reason, value := range m.values(t, "outboxie.relay.halted") {
		require.Zero(t, value, reason)
	}
	for name, count := range counts {
		require.Equal(t, values{"": count}, m.values(t, name), "a count never goes back")
	}
}

// answers has the answers of the fake servers.
type answers struct {
	leads    bool
	waiting  time.Duration
	measures operations.RelayMetrics
	lags     []operations.Lag

	overviews []inbox.Overview
	down      error
	asked     int
}

func (w *answers) shared() telemetry.Shared {
	return telemetry.Shared{
		Leads:   func() bool { return w.leads },
		Waiting: func() time.Duration { return w.waiting },
		Measures: func(ctx context.Context) (operations.RelayMetrics, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				return operations.RelayMetrics{}, errors.New("nobody bounds this")
			}
			w.asked++
			return w.measures, w.down
		},
		Lags:      func(context.Context) ([]operations.Lag, error) { return w.lags, nil },
		Overviews: func(context.Context) ([]inbox.Overview, error) { return w.overviews, nil },
	}
}

var sharedGauges = []string{
	"outboxie.outbox.backlog", "outboxie.outbox.oldest_unpublished.age", "outboxie.outbox.size", "outboxie.outbox.oldest_writer.age",
	"outboxie.parking.events", "outboxie.parking.aggregates", "outboxie.subscriber.lag", "outboxie.subscriber.oldest_unhandled.age",
}

// TestLeaderShowsSharedMetrics checks that only the leader shows the values that are the same for all instances, and that every instance
// shows them while nobody leads.
func TestLeaderShowsSharedMetrics(t *testing.T) {
	for name, c := range map[string]struct {
		leads, led, shows bool
	}{
		"the leader":                        {leads: true, led: true, shows: true},
		"a leader whose lease just ran out": {leads: true, led: false, shows: true},
		"a follower":                        {leads: false, led: true, shows: false},
		"anybody, while nobody leads":       {leads: false, led: false, shows: true},
	} {
		t.Run(name, func(t *testing.T) {
			mp, m := measuring()
			w := &answers{
				leads: c.leads, waiting: time.Second, lags: []operations.Lag{{Subscriber: "billing", Events: 4, Oldest: 6 * time.Second}},
				measures: operations.RelayMetrics{
					HasLeader: c.led, Backlog: 10, Oldest: 2 * time.Second, Retained: 30, OldestTransaction: 500 * time.Millisecond, ParkedEvents: 5, ParkedAggregates: 2,
				},
			}
			registered(t)(telemetry.ObserveShared(mp, w.shared()))
			for i, value := range []float64{10, 2, 30, 1, 5, 2} {
				want := values{}
				if c.shows {
					want[""] = value
				}
				require.Equal(t, want, m.values(t, sharedGauges[i]), sharedGauges[i])
			}
			for i, value := range []float64{4, 6} {
				want := values{}
				if c.shows {
					want[whose] = value
				}
				require.Equal(t, want, m.values(t, sharedGauges[6+i]))
			}
		})
	}
}

// TestWhatIsNotKnownIsNotShown checks that no old values are shown while the database is down, and that the values of the
// broker still are.
func TestWhatIsNotKnownIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mp, m := measuring()
		w := &answers{leads: true, lags: []operations.Lag{{Subscriber: "billing"}}}
		registered(t)(telemetry.ObserveShared(mp, w.shared()))
		require.Equal(t, values{"": 0}, m.values(t, "outboxie.outbox.backlog"))
		w.down = errDown
		time.Sleep(time.Second)
		shown, err := m.collect("outboxie.outbox.backlog")
		require.ErrorIs(t, err, errDown)
		require.Empty(t, shown)
		shown, _ = m.collect("outboxie.subscriber.lag")
		require.Equal(t, values{whose: 0}, shown)
		w.leads = false
		shown, err = m.collect("outboxie.subscriber.lag")
		require.ErrorIs(t, err, errDown)
		require.Empty(t, shown, "whether somebody leads is not known")
	})
}

func TestServersAreAskedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mp, m := measuring()
		w := &answers{leads: true}
		registered(t)(telemetry.ObserveShared(mp, w.shared()))
		for range 50 {
			m.values(t, "outboxie.outbox.backlog")
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 5, w.asked)
	})
}

func TestDeadLettersAreObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mp, m := measuring()
		dead, down := 3, error(nil)
		registered(t)(telemetry.ObserveDeadLetters(mp, "billing", func(_ context.Context, subscriber string) (int, error) {
			require.Equal(t, "billing", subscriber)
			return dead, down
		}))
		require.Equal(t, values{whose: 3}, m.values(t, "outboxie.subscriber.dead_letters"))
		dead, down = 0, errDown
		time.Sleep(time.Second)
		shown, err := m.collect("outboxie.subscriber.dead_letters")
		require.ErrorIs(t, err, errDown)
		require.Empty(t, shown)
	})
}

// TestLossIsObserved checks the number of removed messages before which a subscriber has stopped. The number 0 is shown, too.
func TestLossIsObserved(t *testing.T) {
	mp, m := measuring()
	lost := 12
	registered(t)(telemetry.ObserveLoss(mp, "billing", func() int { return lost }))
	require.Equal(t, values{whose: 12}, m.values(t, "outboxie.subscriber.lost"))
	lost = 0
	require.Equal(t, values{whose: 0}, m.values(t, "outboxie.subscriber.lost"))
}

// TestErasedIsObserved checks the number of events that had no effect because their key was erased.
func TestErasedIsObserved(t *testing.T) {
	mp, m := measuring()
	registered(t)(telemetry.ObserveErased(mp, "billing", func() int64 { return 3 }))
	require.Equal(t, values{whose: 3}, m.values(t, "outboxie.subscriber.erased"))
}

func TestPoolIsObserved(t *testing.T) {
	mp, m := measuring()
	db, err := sql.Open("pgx", infra.Database(t))
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(2)
	registered(t)(telemetry.ObservePool(mp, "main", db))
	held, err := db.Conn(t.Context())
	require.NoError(t, err)
	other, err := db.Conn(t.Context())
	require.NoError(t, err)
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = db.Conn(impatient)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, other.Close())

	const pool = "db.client.connection.pool.name=main"
	require.Equal(t, values{pool + ",db.client.connection.state=idle": 1, pool + ",db.client.connection.state=used": 1},
		m.values(t, "db.client.connection.count"))
	require.Equal(t, values{pool: 2}, m.values(t, "db.client.connection.max"))
	require.Equal(t, values{pool: 1}, m.values(t, "outboxie.database.connection.waits"))
	require.Positive(t, m.values(t, "outboxie.database.connection.wait_time")[pool])
	require.NoError(t, held.Close())
}

func TestConnectionToNATSIsObserved(t *testing.T) {
	mp, m := measuring()
	server := infra.NATS(t)
	nc, err := nats.Connect(server.URL, nats.ReconnectWait(10*time.Millisecond), nats.MaxReconnects(-1))
	require.NoError(t, err)
	defer nc.Close()
	registered(t)(telemetry.ObserveNATS(mp, nc))
	require.Equal(t, values{"": 1}, m.values(t, "outboxie.nats.connected"))
	require.Equal(t, values{"": 0}, m.values(t, "outboxie.nats.reconnects"))
	require.NoError(t, nc.Publish("a", []byte("12345")))
	require.Equal(t, values{"network.io.direction=transmit": 1, "network.io.direction=receive": 0}, m.values(t, "outboxie.nats.messages"))
	require.Equal(t, values{"network.io.direction=transmit": 5, "network.io.direction=receive": 0}, m.values(t, "outboxie.nats.io"))
	server.Stop()
	require.Eventually(t, func() bool { return m.values(t, "outboxie.nats.connected")[""] == 0 }, 10*time.Second, 10*time.Millisecond)
	server.Start()
	require.Eventually(t, func() bool { return m.values(t, "outboxie.nats.connected")[""] == 1 }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, values{"": 1}, m.values(t, "outboxie.nats.reconnects"))
}

// scraped returns the lines of /metrics that begin with name.
func scraped(t *testing.T, tel *telemetry.Telemetry, name string) []string {
	t.Helper()
	answer := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	var lines []string
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, name) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func TestHandlerShowsWhatIsMeasured(t *testing.T) {
	environment(t)
	tel := setup(t, new(infra.Buffer))
	counter, err := tel.MeterProvider().Meter("t").Int64Counter("test.events", metric.WithUnit("{event}"))
	require.NoError(t, err)
	counter.Add(t.Context(), 3)
	require.Equal(t, []string{"test_events_total 3"}, scraped(t, tel, "test_events"), "without labels that say which library it was")
	require.Len(t, scraped(t, tel, "go_goroutine_count "), 1)
	require.Contains(t, scraped(t, tel, "target_info")[0], `service_instance_id="i1"`)
	require.NoError(t, tel.Shutdown(t.Context()))
}

// TestClientsMakeNoSeries checks that clients cannot create series: no label of an HTTP metric has a value that the client
// chooses.
func TestClientsMakeNoSeries(t *testing.T) {
	environment(t)
	tel := setup(t, new(infra.Buffer))
	m := tel.MeterProvider().Meter("http")
	duration, err := m.Float64Histogram("http.server.request.duration", metric.WithExplicitBucketBoundaries(1, 2))
	require.NoError(t, err)
	size, err := m.Int64Histogram("http.server.request.body.size")
	require.NoError(t, err)
	for _, host := range []string{"a", "b", "c"} {
		about := metric.WithAttributes(attribute.String("server.address", host), attribute.String("http.route", "/orders"), attribute.String("url.scheme", "http"))
		duration.Record(t.Context(), 1, about)
		size.Record(t.Context(), 1, about)
	}
	require.Equal(t, []string{`http_server_request_duration_count{http_route="/orders",url_scheme="http"} 3`}, scraped(t, tel, "http_server_request_duration_count"))
	require.Len(t, scraped(t, tel, "http_server_request_duration_bucket"), 3, "the boundaries stay")
	require.Empty(t, scraped(t, tel, "http_server_request_body"))
	require.NoError(t, tel.Shutdown(t.Context()))
}

func TestDisabledSDKMeasuresNothing(t *testing.T) {
	environment(t, "OTEL_SDK_DISABLED=true")
	tel := setup(t, new(infra.Buffer))
	require.Nil(t, tel.Metrics())
	telemetry.MeasureRelay(tel.MeterProvider(), "ORDERS", telemetry.RelayPorts{Retention: &retention{}})
	require.NoError(t, tel.Shutdown(t.Context()))
}

func TestWhatTheEnvironmentPushes(t *testing.T) {
	for name, c := range map[string]struct {
		environment string // @ stands for the address of a collector
		pushed      bool
	}{
		"nothing":                                     {"", false},
		"an endpoint, which may be a Jaeger":          {"OTEL_EXPORTER_OTLP_ENDPOINT=@", false},
		"an endpoint, and that metrics go there":      {"OTEL_EXPORTER_OTLP_ENDPOINT=@ OTEL_METRICS_EXPORTER=otlp", true},
		"an endpoint, and that metrics go nowhere":    {"OTEL_EXPORTER_OTLP_ENDPOINT=@ OTEL_METRICS_EXPORTER=none", false},
		"an endpoint for metrics":                     {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=@/v1/metrics", true},
		"an endpoint for metrics that are not to go":  {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=@/v1/metrics OTEL_METRICS_EXPORTER=none", false},
		"an endpoint for traces":                      {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=@/v1/traces", false},
		"an endpoint for metrics, and nothing at all": {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=@/v1/metrics OTEL_SDK_DISABLED=true", false},
	} {
		t.Run(name, func(t *testing.T) {
			collector := infra.Collector(t)
			environment(t, strings.Fields(strings.ReplaceAll(c.environment, "@", collector.Endpoint()))...)
			log := new(infra.Buffer)
			tel := setup(t, log)
			require.NoError(t, tel.Shutdown(t.Context()))
			require.Equal(t, c.pushed, len(collector.Points("go.goroutine.count")) > 0)
			require.Empty(t, log.String())
		})
	}
}
