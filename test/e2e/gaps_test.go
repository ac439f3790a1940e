package e2e_test

import (
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestStreamRemovesWhatWasNotRead checks that what the stream removed before the subscriber read it takes effect in order, because the log
// has it; that the number of messages is said that the log does not have any more, before which the subscriber stands; and that it goes on with the
// setting, and with the command that its log names.
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
	r.purgeLog(10)
	third := r.read("third")
	third.Says("up to 10 of these nobody knows")
	third.Says("outboxie subscriber skip --id emails --to ")
	require.Equal(t, 21, count(t, r.db, applied), "it stands before them")
	require.Zero(t, third.Stop(syscall.SIGTERM))

	stops := r.environment
	r.environment = append(slices.Clip(stops), "SUBSCRIBER_ON_LOSS=continue")
	fourth := r.read("fourth")
	r.eventually(applied, 31)
	r.requireInOrder()
	require.Equal(t, 10, count(t, r.db, "SELECT missed FROM subscribers WHERE subscriber = 'emails'"))
	require.Equal(t, 12, count(t, r.db, "SELECT filled FROM subscribers WHERE subscriber = 'emails'"))
	require.Zero(t, fourth.Stop(syscall.SIGTERM))

	r.environment = stops
	r.record(20)
	r.removeNext(20, 12)
	r.purgeLog(10)
	fifth := r.read("fifth")
	fifth.Says("up to 10 of these nobody knows")
	r.skipAsNamed(fifth)
	r.eventually(applied, 39)
	r.requireInOrder()
	require.Equal(t, 10, count(t, r.db, "SELECT missed FROM subscribers WHERE subscriber = 'emails'"))
	require.Equal(t, 12, count(t, r.db, "SELECT filled FROM subscribers WHERE subscriber = 'emails'"))
}

// purgeLog lets retention have removed the log but for the last events.
func (r *readership) purgeLog(kept int) {
	r.t.Helper()
	_, err := r.db.Exec(`WITH gone AS (DELETE FROM outbox WHERE position IN (SELECT position FROM outbox ORDER BY position DESC OFFSET $1) RETURNING position)
		UPDATE outbox_cursor SET purged_to = (SELECT max(position) FROM gone)`, kept)
	require.NoError(r.t, err)
}

// skipAsNamed runs the command that the log of a copy names, word for word, beside the copy.
func (r *readership) skipAsNamed(copy *infra.Process) {
	r.t.Helper()
	copy.Says("to go on without them")
	named := regexp.MustCompile(`outboxie (subscriber skip [^"\\]*--yes)`).FindStringSubmatch(copy.String())
	require.NotEmpty(r.t, named)
	said, err := infra.Outboxie(r.t, r.environment, strings.Fields(named[1])...)
	require.NoError(r.t, err, said)
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
