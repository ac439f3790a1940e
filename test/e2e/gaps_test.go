package e2e_test

import (
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestStreamRemovesWhatWasNotRead checks that what the stream removed before the subscriber read it takes effect in order, because the log
// has it; and that the number of messages is said that the log does not have any more, before which the subscriber stands.
func TestStreamRemovesWhatWasNotRead(t *testing.T) {
	r := newReadership(t)
	begun := r.read("begun")
	r.order(infra.Customer)
	r.requireEffects()
	require.Zero(t, begun.Stop(syscall.SIGTERM))

	orders := make([]infra.Order, 10)
	for i := range orders {
		orders[i] = r.order(infra.Customer)
	}
	for _, order := range orders {
		r.pay(order)
	}
	r.removeNext(20, 10)
	second := r.read("second")
	r.requireEffects()
	r.requireInOrder()
	require.Equal(t, 21, count(t, r.db, applied))
	r.eventually("SELECT filled FROM subscribers WHERE subscriber = 'emails'", 10)
	require.Contains(t, second.String(), "events that the stream had removed came from the log")
	require.Zero(t, second.Stop(syscall.SIGTERM))

	r.record(20)
	r.removeNext(20, 12)
	_, err := r.db.Exec(`WITH gone AS (DELETE FROM outbox WHERE position IN (SELECT position FROM outbox ORDER BY position DESC OFFSET 10) RETURNING position)
		UPDATE outbox_cursor SET purged_to = (SELECT max(position) FROM gone)`)
	require.NoError(t, err)
	third := r.read("third")
	third.Says("up to 10 of these nobody knows")
	third.Says("outboxie subscriber skip --id emails --to ")
	require.Equal(t, 21, count(t, r.db, applied), "it stands before them")
	require.Zero(t, third.Stop(syscall.SIGTERM))

	r.environment = append(r.environment, "SUBSCRIBER_ON_LOSS=continue")
	r.read("fourth")
	r.eventually(applied, 31)
	r.requireInOrder()
	require.Equal(t, 10, count(t, r.db, "SELECT missed FROM subscribers WHERE subscriber = 'emails'"))
	require.Equal(t, 12, count(t, r.db, "SELECT filled FROM subscribers WHERE subscriber = 'emails'"))
}

// removeNext waits until so many messages were published after the subscriber's place, and removes the first of them.
func (r *readership) removeNext(published, removed int) {
	r.t.Helper()
	place := count(r.t, r.db, "SELECT sequence FROM subscriber_lanes WHERE subscriber = 'emails'")
	r.awaitPublished(place + published)
	js, done := connect(r.t, r.broker.URL)
	defer done()
	stream, err := js.Stream(r.t.Context(), "ORDERS")
	require.NoError(r.t, err)
	require.NoError(r.t, stream.Purge(r.t.Context(), jetstream.WithPurgeSequence(uint64(place+removed+1))))
}
