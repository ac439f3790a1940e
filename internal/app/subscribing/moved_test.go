package subscribing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	ports "github.com/assylzhan-a/outboxie/internal/ports/operating"
)

// move sends the subscriber to a sequence, as an operator does.
func (s *service) move(sequence uint64, forwards bool) {
	s.t.Helper()
	o := operating.NewSubscribers(operating.SubscriberPorts{
		Operator: memory.NewOperator(s.inbox), Stream: memory.NewReader(s.stream, subscriber), Lags: noLags{}, Log: s.inbox,
	})
	plan, err := o.Plan(s.t.Context(), subscriber, ports.Target{Sequence: sequence}, forwards)
	require.NoError(s.t, err)
	_, err = o.Move(s.t.Context(), plan)
	require.NoError(s.t, err)
}

// stands returns the sequence at which the only lane stands. It does not look as a copy does: that would announce another copy.
func (s *service) stands() uint64 {
	s.t.Helper()
	all, err := memory.NewOperator(s.inbox).Overviews(s.t.Context())
	require.NoError(s.t, err)
	require.Len(s.t, all, 1)
	require.Len(s.t, all[0].Lanes, 1)
	return all[0].Lanes[0].Sequence
}

// TestRewindWithoutNewEvents checks that the only copy of a subscriber reads again after a rewind although no new event comes.
func TestRewindWithoutNewEvents(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		stop := s.start("only")
		s.publish(100)
		pass(5 * time.Second)
		require.Equal(t, uint64(100), s.stands())
		s.move(0, false)
		require.Equal(t, uint64(0), s.stands())
		pass(3 * time.Second)
		require.Equal(t, uint64(100), s.stands())
		stop()
		s.running.Wait()
	})
}

// TestSkipPastLoss checks that a copy that stands before messages that nobody knows goes on after a skip, without a restart.
func TestSkipPastLoss(t *testing.T) {
	whileLosing(t, subscribing.Options{Skip: func(string, uint64) string { return "" }}, 1, func(l *losing) {
		l.add(20)
		l.remove(1, 12)
		l.rows.Purge(10)
	}, func(l *losing, running *subscribing.Subscriber) {
		require.NotEmpty(l.t, running.Trouble())
		l.move(12, true)
		pass(10 * time.Second)
		require.Empty(l.t, running.Trouble())
		l.requireApplied(from(13, 20)...)
		l.requireCounts(0, 0)
	})
}
