package e2e_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestForgetting checks that a subscriber forgets an event only when neither the log nor the stream has it. The broker's store is lost when the
// event is old enough to be forgotten. Then the log publishes the event again.
func TestForgetting(t *testing.T) {
	s := newSubscription(t, "OUTBOX_RETENTION=1m", "STREAM_MAX_AGE=1m", "INBOX_RETENTION=121s", "OUTBOX_LEASE_TTL=1s")
	first := s.startCopy("first")
	forgotten := s.order(infra.Customer)
	s.requireEffects()
	require.Zero(t, first.Stop(syscall.SIGTERM))

	s.broker.Stop()
	_, err := s.db.Exec("UPDATE inbox SET applied_at = applied_at - interval '3 minutes'")
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(s.store, "jetstream")))
	s.broker.Start()
	require.Eventually(t, func() bool {
		_, err := infra.Outboxie(t, s.environment, "outbox", "adopt", "--yes")
		return err == nil
	}, waitTimeout, tick, "the stream is gone")
	second := s.startCopy("second") // which sweeps when it begins
	second.WaitFor("dropped events that were dealt with before")
	kept := s.order(infra.Customer)
	s.eventually("SELECT orders FROM customer_totals", 2)
	time.Sleep(1500 * time.Millisecond) // a sweep waits for the lanes, which move once a second
	require.Equal(t, 2, count(t, s.db, "SELECT count(*) FROM inbox"))
	require.Equal(t, 2, count(t, s.db, "SELECT orders FROM customer_totals"))
	require.Zero(t, second.Stop(syscall.SIGTERM))

	require.Eventually(t, func() bool {
		_, err := s.db.Exec("UPDATE outbox_cursor SET passed_at = passed_at - interval '1 minute'")
		require.NoError(t, err)
		return count(t, s.db, "SELECT count(*) FROM outbox") == 0
	}, waitTimeout, tick)
	_, err = s.db.Exec("UPDATE inbox SET applied_at = applied_at - interval '3 minutes'")
	require.NoError(t, err)
	js, done := connect(t, s.broker.URL)
	defer done()
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	after := count(t, s.db, "SELECT sequence FROM inbox WHERE aggregate_id = '"+forgotten.ID+"'") + 1
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(uint64(after))))
	s.startCopy("third")
	s.eventually("SELECT count(*) FROM inbox WHERE aggregate_id = '"+forgotten.ID+"'", 0)
	s.eventually("SELECT count(*) FROM inbox WHERE aggregate_id = '"+kept.ID+"'", 1)
}
