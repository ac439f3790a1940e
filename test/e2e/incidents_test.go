package e2e_test

import (
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// incident is an incident of docs/runbook.md.
type incident struct {
	alerts  []string // the alerts of this incident; more alerts may follow from it later
	provoke func(w *watched) (repair func())
}

var incidents = map[string]incident{
	"the broker is down":        {[]string{"OutboxieEventsLate"}, (*watched).loseBroker},
	"a transaction stays open":  {[]string{"OutboxieOpenWriter"}, (*watched).leaveOpen},
	"the stream is deleted":     {[]string{"OutboxieHalted"}, (*watched).deleteStream},
	"an event is too large":     {[]string{"OutboxieParked"}, (*watched).recordTooLarge},
	"the subscriber is stopped": {[]string{"OutboxieSubscriberLate", "OutboxieSubscriberAlone"}, (*watched).stopSubscriber},
	"a lane is held":            {[]string{"OutboxieSubscriberStalled"}, (*watched).holdLane},
	"lost messages":             {[]string{"OutboxieMessagesLost"}, (*watched).loseMessages},
	"the subscriber is paused":  {[]string{"OutboxieSubscriberPaused"}, (*watched).pauseSubscriber},
	"an event fails every time": {[]string{"OutboxieDeadLetters"}, (*watched).recordPoison},
	"no instance runs any more": {[]string{"OutboxieNoLeader", "OutboxieNotMeasured"}, (*watched).killInstances},
}

// TestAlerts checks that each alert fires on real servers for its cause, with its real thresholds, and ends when the runbook's steps are
// done.
func TestAlerts(t *testing.T) {
	needsPrometheus(t)
	for name, incident := range incidents {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			prometheus := infra.Prometheus(t, alertRules)
			w := newWatched(t, "SUBSCRIBER_MAX_ATTEMPTS=2")
			prometheus.Scrape("shop", w.leader, w.follower, w.emails)
			w.rescrape = func(admins ...string) { prometheus.Scrape("shop", admins...) }
			placeMany(t, w.api, 1)
			w.waitForSample(w.emails, 1, "outboxie_subscriber_latency_seconds_count", emails)
			firing := func() []string { return names(t, prometheus) }
			eventually(t, func() bool { return measured(t, prometheus) && len(firing()) == 0 }, "all is well")

			began := time.Now()
			repair := incident.provoke(w)
			for _, alert := range incident.alerts {
				eventually(t, func() bool { return slices.Contains(firing(), alert) }, "%s never fires", alert)
				t.Logf("%s fires after %s", alert, time.Since(began).Round(time.Second))
			}
			began = time.Now()
			repair()
			eventually(t, func() bool { return len(firing()) == 0 }, "something still fires")
			t.Logf("over after %s", time.Since(began).Round(time.Second))
		})
	}
}

func names(t *testing.T, prometheus *infra.PrometheusServer) []string {
	t.Helper()
	alerts, err := prometheus.Firing()
	require.NoError(t, err)
	var names []string
	for _, labels := range alerts {
		names = append(names, labels["alertname"])
	}
	return names
}

func measured(t *testing.T, prometheus *infra.PrometheusServer) bool {
	t.Helper()
	leaders, err := prometheus.Query("sum(outboxie_relay_leader)")
	require.NoError(t, err)
	return len(leaders) == 1 && leaders[0].Value == 1
}

// eventually waits longer than any alert needs to fire.
func eventually(t *testing.T, condition func() bool, what string, args ...any) {
	t.Helper()
	for began := time.Now(); !condition(); time.Sleep(200 * time.Millisecond) {
		if time.Since(began) > 3*time.Minute {
			t.Fatalf(what, args...)
		}
	}
}

func (w *watched) loseBroker() func() {
	w.broker.Stop()
	placeMany(w.t, w.api, 1)
	return w.broker.Start
}

// leaveOpen leaves a transaction of plain SQL open. `outbox status` prints the command that ends it.
func (w *watched) leaveOpen() func() {
	tx, err := w.db.Begin()
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = tx.Rollback() })
	w.clone(tx, "11111111-1111-1111-1111-111111111111", 1, "")
	placeMany(w.t, w.api, 1)
	return func() {
		said := w.command("outbox", "status")
		require.Contains(w.t, said, "waiting for an open transaction")
		end := regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\)`).FindString(said)
		require.NotEmpty(w.t, end, said)
		_, err := w.db.Exec(end)
		require.NoError(w.t, err)
	}
}

func (w *watched) deleteStream() func() {
	js, done := connect(w.t, w.broker.URL)
	defer done()
	require.NoError(w.t, js.DeleteStream(w.t.Context(), "ORDERS"))
	return func() {
		said, err := infra.Outboxie(w.t, w.environment, "outbox", "adopt")
		require.Error(w.t, err, "it only shows what it would do")
		require.Contains(w.t, said, "stream_missing")
		w.command("outbox", "adopt", "--yes")
	}
}

func (w *watched) recordTooLarge() func() {
	const order = "22222222-2222-2222-2222-222222222222"
	w.clone(w.db, order, 1, `"`+strings.Repeat("x", 2<<20)+`"`)
	w.clone(w.db, order, 2, "")
	return func() {
		require.Contains(w.t, w.command("outbox", "parked"), "2 events of 1 aggregate")
		w.command("outbox", "discard", "--position", "2", "--yes")
		w.command("outbox", "redrive", "--all")
	}
}

func (w *watched) stopSubscriber() func() {
	require.Zero(w.t, w.subscriber.Stop(syscall.SIGTERM))
	placeMany(w.t, w.api, 3)
	return w.subscribe
}

// holdLane holds the row of the subscriber's lane in a transaction of plain SQL.
func (w *watched) holdLane() func() {
	tx, err := w.db.Begin()
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = tx.Rollback() })
	_, err = tx.Exec("SELECT FROM subscriber_lanes WHERE subscriber = 'emails' FOR UPDATE")
	require.NoError(w.t, err)
	placeMany(w.t, w.api, 1)
	return func() { require.NoError(w.t, tx.Rollback()) }
}

// loseMessages removes events that the subscriber has not seen from the stream and the log. The subscriber's log names the command to continue
// without them.
func (w *watched) loseMessages() func() {
	resubscribe := w.stopSubscriber()
	place := count(w.t, w.db, "SELECT sequence FROM subscriber_lanes WHERE subscriber = 'emails'")
	js, done := connect(w.t, w.broker.URL)
	defer done()
	stream, err := js.Stream(w.t.Context(), "ORDERS")
	require.NoError(w.t, err)
	eventually(w.t, func() bool {
		info, err := stream.Info(w.t.Context())
		return err == nil && info.State.LastSeq >= uint64(place)+3 //nolint:gosec // a sequence
	}, "the orders are not published")
	require.NoError(w.t, stream.Purge(w.t.Context(), jetstream.WithPurgeSequence(uint64(place)+3))) //nolint:gosec // a sequence
	_, err = w.db.Exec(`WITH gone AS (DELETE FROM outbox WHERE position < (SELECT max(position) FROM outbox) RETURNING position)
		UPDATE outbox_cursor SET purged_to = (SELECT max(position) FROM gone)`)
	require.NoError(w.t, err)
	resubscribe()
	w.rescrape(w.leader, w.follower, w.emails)
	return func() {
		w.subscriber.WaitFor("to go on without them")
		skip := regexp.MustCompile(`outboxie (subscriber skip [^"\\]*--yes)`).FindStringSubmatch(w.subscriber.String())
		require.NotEmpty(w.t, skip)
		w.command(strings.Fields(skip[1])...)
	}
}

// pauseSubscriber pauses the subscriber, and sets the time of the pause back by an hour.
func (w *watched) pauseSubscriber() func() {
	w.command("subscriber", "pause", "--id", "emails")
	_, err := w.db.Exec("UPDATE subscribers SET paused_at = paused_at - interval '1 hour' WHERE subscriber = 'emails'")
	require.NoError(w.t, err)
	placeMany(w.t, w.api, 1)
	return func() { w.command("subscriber", "resume", "--id", "emails") }
}

func (w *watched) recordPoison() func() {
	w.clone(w.db, "33333333-3333-3333-3333-333333333333", 1, `"nonsense"`)
	return func() {
		said := w.command("subscriber", "dead", "--id", "emails")
		event := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).FindString(said)
		require.NotEmpty(w.t, event, said)
		w.command("subscriber", "discard", "--id", "emails", "--event", event, "--yes")
	}
}

func (w *watched) killInstances() func() {
	w.first.Kill()
	w.second.Kill()
	return func() {
		w.rescrape(infra.Serve(w.t, "third", w.environment).Admin())
	}
}
