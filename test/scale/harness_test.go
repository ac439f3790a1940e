//go:build scale

package scale_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// harness is two instances and two subscribers under load. One subscriber has one lane and one copy, the other four lanes and two copies.
type harness struct {
	*load
	db          *sql.DB
	js          jetstream.JetStream
	instances   []*infra.Process
	subscribers []string
	copies      []*infra.Process // of subscribers
	mayHalt     bool             // the test makes the relay halt
}

// startHarness starts the instances, the subscribers and the load. It returns when every subscriber has applied an event.
func startHarness(t *testing.T, database string, environment []string, js jetstream.JetStream) *harness {
	t.Helper()
	h := &harness{db: open(t, database), js: js, subscribers: []string{"emails", "vouchers"}}
	var apis []string
	for _, id := range []string{"app1", "app2"} {
		instance := infra.Serve(t, id, environment)
		h.instances = append(h.instances, instance)
		apis = append(apis, instance.API())
	}
	require.NoError(t, checker.Record(t.Context(), h.db))
	h.copies = append(h.copies, subscribe(t, h.subscribers[0], environment))
	for _, name := range []string{"vouchers-a", "vouchers-b"} {
		h.copies = append(h.copies, subscribe(t, h.subscribers[1], append([]string{"SUBSCRIBER_LANES=4", "INSTANCE_ID=" + name}, environment...)))
	}
	h.load = startLoad(t, apis...)
	require.Eventually(t, func() bool {
		return count(t, h.db, "SELECT count(DISTINCT subscriber) FROM inbox") == len(h.subscribers)
	}, waitTimeout, 20*time.Millisecond, "a subscriber applies nothing before the first fault")
	return h
}

// forbiddenLines are texts of the program that no process may log. Only a test that makes the relay halt allows the first one.
var forbiddenLines = []string{"relay halted", "lost acknowledged messages"}

// TestForbiddenLines checks that the program has the texts of forbiddenLines, so that finish does not look for texts of the past.
func TestForbiddenLines(t *testing.T) { infra.RequireInSource(t, forbiddenLines...) }

// finish stops the load, waits until stream and subscribers have caught up, and has the checker judge everything.
func (h *harness) finish(t *testing.T) {
	t.Helper()
	h.stop()
	began := time.Now()
	events := count(t, h.db, "SELECT count(*) FROM outbox")
	for _, id := range h.subscribers {
		require.Eventually(t, func() bool {
			return count(t, h.db, "SELECT count(*) FROM inbox WHERE subscriber = $1 AND applied_at IS NOT NULL", id) >= events
		}, waitTimeout, 20*time.Millisecond, "%s does not catch up with %d events", id, events)
	}
	recovery := checker.Recovery{Took: time.Since(began), Bound: waitTimeout}
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	verdict, err := checker.Verify(checker.History{
		Parked: checker.ReadParked(ctx, h.db), Log: checker.ReadLog(ctx, h.db), Stream: checker.ReadStream(ctx, h.js, "ORDERS"),
		Effects: checker.ReadEffects(ctx, h.db), Letters: checker.ReadLetters(ctx, h.db),
		Subscribers: h.subscribers, Ledger: h.ledger.Ledger, Recovery: recovery,
		Service: ordercheck.New(h.ledger, ordercheck.ReadTotals(ctx, h.db), h.subscribers...),
	})
	require.NoError(t, err)
	t.Logf("%d events, %d requests tried again\n%s", events, h.retries.Load(), verdict)
	require.Empty(t, verdict.Failed())
	require.Equal(t, 4, count(t, h.db, "SELECT count(*) FROM subscriber_lanes WHERE subscriber = $1", h.subscribers[1]))
	for _, instance := range slices.Concat(h.instances, h.copies) {
		for _, never := range slices.Concat(forbiddenLines, []string{"panic: "}) {
			if h.mayHalt && never == forbiddenLines[0] {
				continue
			}
			if before, after, said := strings.Cut(instance.String(), never); said {
				t.Errorf("%s", fmt.Sprintf("a process said: %s%s%s", before[max(0, len(before)-200):], never, after[:min(len(after), 500)]))
			}
		}
	}
}
