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

// TestStreamRemovesWhatWasNotRead checks that events take effect in order although the stream removed them unread, if the log still has them. If
// the log does not, the subscriber stops before them and logs their number. It continues with SUBSCRIBER_ON_LOSS=continue, or after the command
// that its log names.
func TestStreamRemovesWhatWasNotRead(t *testing.T) {
	s := newSubscription(t)
	begun := s.startCopy("begun")
	s.order(infra.Customer)
	s.requireEffects()
	require.Zero(t, begun.Stop(syscall.SIGTERM))

	orders := make([]infra.Order, 10)
	for i := range orders {
		orders[i] = s.order(infra.Customer)
	}
	for _, order := range orders {
		s.pay(order)
	}
	s.removeNext(20, 10)
	second := s.startCopy("second")
	s.requireEffects()
	s.requireInOrder()
	require.Equal(t, 21, count(t, s.db, applied))
	s.eventually("SELECT filled FROM subscribers WHERE subscriber = 'emails'", 10)
	require.Contains(t, second.String(), "events that the stream had removed came from the log")
	require.Zero(t, second.Stop(syscall.SIGTERM))

	s.record(20)
	s.removeNext(20, 12)
	s.purgeLog(10)
	third := s.startCopy("third")
	third.WaitFor("the events of up to 10 of them are unknown")
	third.WaitFor("outboxie subscriber skip --id emails --to ")
	require.Equal(t, 21, count(t, s.db, applied), "the subscriber stops before the missing messages")
	require.Zero(t, third.Stop(syscall.SIGTERM))

	stops := s.environment
	s.environment = append(slices.Clip(stops), "SUBSCRIBER_ON_LOSS=continue")
	fourth := s.startCopy("fourth")
	s.eventually(applied, 31)
	s.requireInOrder()
	require.Equal(t, 10, count(t, s.db, "SELECT missed FROM subscribers WHERE subscriber = 'emails'"))
	require.Equal(t, 12, count(t, s.db, "SELECT filled FROM subscribers WHERE subscriber = 'emails'"))
	require.Zero(t, fourth.Stop(syscall.SIGTERM))

	s.environment = stops
	s.record(20)
	s.removeNext(20, 12)
	s.purgeLog(10)
	fifth := s.startCopy("fifth")
	fifth.WaitFor("the events of up to 10 of them are unknown")
	s.skipAsNamed(fifth)
	s.eventually(applied, 39)
	s.requireInOrder()
	require.Equal(t, 10, count(t, s.db, "SELECT missed FROM subscribers WHERE subscriber = 'emails'"))
	require.Equal(t, 12, count(t, s.db, "SELECT filled FROM subscribers WHERE subscriber = 'emails'"))
}

// purgeLog removes all events from the log but the last ones, as retention does.
func (s *subscription) purgeLog(kept int) {
	s.t.Helper()
	_, err := s.db.Exec(`WITH gone AS (DELETE FROM outbox WHERE position IN (SELECT position FROM outbox ORDER BY position DESC OFFSET $1) RETURNING position)
		UPDATE outbox_cursor SET purged_to = (SELECT max(position) FROM gone)`, kept)
	require.NoError(s.t, err)
}

// skipAsNamed runs the command that the log of a copy names, word for word, beside the copy.
func (s *subscription) skipAsNamed(copy *infra.Process) {
	s.t.Helper()
	copy.WaitFor("to go on without them")
	named := regexp.MustCompile(`outboxie (subscriber skip [^"\\]*--yes)`).FindStringSubmatch(copy.String())
	require.NotEmpty(s.t, named)
	said, err := infra.Outboxie(s.t, s.environment, strings.Fields(named[1])...)
	require.NoError(s.t, err, said)
}

// removeNext waits until this many messages were published after the subscriber's checkpoint, and removes the first ones of them.
func (s *subscription) removeNext(published, removed int) {
	s.t.Helper()
	place := count(s.t, s.db, "SELECT sequence FROM subscriber_lanes WHERE subscriber = 'emails'")
	s.awaitPublished(place + published)
	js, done := connect(s.t, s.broker.URL)
	defer done()
	stream, err := js.Stream(s.t.Context(), "ORDERS")
	require.NoError(s.t, err)
	require.NoError(s.t, stream.Purge(s.t.Context(), jetstream.WithPurgeSequence(uint64(place+removed+1))))
}
