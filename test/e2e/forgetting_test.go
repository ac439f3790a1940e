package e2e_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestForgetting takes the broker's store away after the age at which a subscriber may forget an event. The log still has the event, so
// it is published again by an adoption, and the subscriber still knows it. It forgets it when neither the log nor the stream has it.
func TestForgetting(t *testing.T) {
	r := newReadership(t, "OUTBOX_RETENTION=1m", "STREAM_MAX_AGE=1m", "INBOX_RETENTION=121s", "OUTBOX_LEASE_TTL=1s")
	first := r.read("first")
	forgotten := r.order(infra.Customer)
	r.requireEffects()
	require.Zero(t, first.Stop(syscall.SIGTERM))

	r.broker.Stop()
	_, err := r.db.Exec("UPDATE inbox SET applied_at = applied_at - interval '3 minutes'")
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(r.store, "jetstream")))
	r.broker.Start()
	second := r.read("second")
	require.Eventually(t, func() bool {
		said, err := infra.Outboxie(t, r.environment, "outbox", "adopt", "--yes")
		return err == nil && published(t, r.broker.URL) > 0 || t.Failed() || len(said) == 0
	}, patience, tick)
	second.Says("dropped events that were dealt with before")
	require.Zero(t, second.Stop(syscall.SIGTERM))
	third := r.read("third") // whose first sweep is at its start
	kept := r.order(infra.Customer)
	r.eventually("SELECT orders FROM customer_totals", 2)
	require.Equal(t, 2, count(t, r.db, "SELECT count(*) FROM inbox"))
	require.Zero(t, third.Stop(syscall.SIGTERM))

	require.Eventually(t, func() bool {
		_, err := r.db.Exec("UPDATE outbox_cursor SET passed_at = passed_at - interval '1 minute'")
		require.NoError(t, err)
		return count(t, r.db, "SELECT count(*) FROM outbox") == 0
	}, patience, tick)
	_, err = r.db.Exec("UPDATE inbox SET applied_at = applied_at - interval '3 minutes'")
	require.NoError(t, err)
	js, done := connect(t, r.broker.URL)
	defer done()
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), stream.CachedInfo().State.FirstSeq))
	r.read("fourth")
	r.eventually("SELECT count(*) FROM inbox WHERE aggregate_id = '"+forgotten.ID+"'", 0)
	r.eventually("SELECT count(*) FROM inbox WHERE aggregate_id = '"+kept.ID+"'", 1)
}
