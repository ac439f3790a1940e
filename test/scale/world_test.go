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

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// world is two instances and two subscribers under load. One subscriber has one lane and one copy, the other four lanes and two copies.
type world struct {
	*load
	db          *sql.DB
	js          jetstream.JetStream
	instances   []*infra.Process
	subscribers []string
	copies      []*infra.Process // of subscribers
	mayHalt     bool             // the test makes it halt
}

// startWorld starts them and returns when every subscriber has applied something.
func startWorld(t *testing.T, database string, environment []string, js jetstream.JetStream) *world {
	t.Helper()
	w := &world{db: open(t, database), js: js, subscribers: []string{"emails", "invoices"}}
	var apis []string
	for _, id := range []string{"app1", "app2"} {
		instance := infra.Serve(t, id, environment)
		w.instances = append(w.instances, instance)
		apis = append(apis, instance.API())
	}
	require.NoError(t, checker.Record(t.Context(), w.db))
	w.copies = append(w.copies, subscribe(t, w.subscribers[0], environment))
	for _, name := range []string{"invoices-a", "invoices-b"} {
		w.copies = append(w.copies, subscribe(t, w.subscribers[1], append([]string{"SUBSCRIBER_LANES=4", "INSTANCE_ID=" + name}, environment...)))
	}
	w.load = startLoad(t, apis...)
	require.Eventually(t, func() bool {
		return count(t, w.db, "SELECT count(DISTINCT subscriber) FROM inbox") == len(w.subscribers)
	}, patience, 20*time.Millisecond, "nothing works, without any fault")
	return w
}

// finish stops the load, waits until stream and subscribers have caught up, and has the checker judge everything.
func (w *world) finish(t *testing.T) {
	t.Helper()
	w.stop()
	began := time.Now()
	events := count(t, w.db, "SELECT count(*) FROM outbox")
	for _, id := range w.subscribers {
		require.Eventually(t, func() bool {
			return count(t, w.db, "SELECT count(*) FROM inbox WHERE subscriber = $1 AND applied_at IS NOT NULL", id) >= events
		}, patience, 20*time.Millisecond, "%s does not catch up with %d events", id, events)
	}
	recovery := checker.Recovery{Took: time.Since(began), Bound: patience}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	verdict, err := checker.Verify(checker.History{
		Parked: checker.ReadParked(ctx, w.db), Log: checker.ReadLog(ctx, w.db), Stream: checker.ReadStream(ctx, w.js, "ORDERS"),
		Effects: checker.ReadEffects(ctx, w.db), Letters: checker.ReadLetters(ctx, w.db), Totals: checker.ReadTotals(ctx, w.db),
		Subscribers: w.subscribers, Ledger: w.ledger, Recovery: recovery,
	})
	require.NoError(t, err)
	t.Logf("%d events, %d requests tried again\n%s", events, w.retries.Load(), verdict)
	require.Empty(t, verdict.Failed())
	require.Equal(t, 4, count(t, w.db, "SELECT count(*) FROM subscriber_lanes WHERE subscriber = $1", w.subscribers[1]))
	for _, instance := range slices.Concat(w.instances, w.copies) {
		for _, never := range []string{"relay halted", "lost acknowledged messages", "panic: "} {
			if w.mayHalt && never == "relay halted" {
				continue
			}
			if before, after, said := strings.Cut(instance.String(), never); said {
				t.Errorf("%s", fmt.Sprintf("a process said: %s%s%s", before[max(0, len(before)-200):], never, after[:min(len(after), 500)]))
			}
		}
	}
}
