package subscribing_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// move sends the subscriber to a sequence, as an operator does.
func (s *service) move(sequence uint64, forwards bool) {
	s.t.Helper()
	o := operating.NewSubscribers(operating.SubscriberPorts{
		Operator: memory.NewOperator(s.inbox), Stream: memory.NewReader(s.stream, subscriber), Lags: noLags{}, Log: s.inbox,
	})
	plan, err := o.Plan(s.t.Context(), subscriber, operations.MoveTarget{Sequence: sequence}, forwards)
	require.NoError(s.t, err)
	_, err = o.Move(s.t.Context(), plan)
	require.NoError(s.t, err)
}

// stands returns the sequence at which the only lane stands. It does not call Heartbeat, which would announce another copy.
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

// TestRewindBeforeTheBeginning checks a subscriber that began at the first message of the stream. After a rewind to the start, it gets none
// of the earlier events of the log. They would come after later events of their aggregates.
func TestRewindBeforeTheBeginning(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		l := s.withLog()
		l.add(20)
		l.remove(1, 10)
		running, stop := s.run("late", effectRecorder{copyHandler{s, "late"}}, s.inbox)
		pass(5 * time.Second)
		s.move(0, false)
		pass(5 * time.Second)
		require.Equal(t, uint64(20), s.stands())
		l.requireApplied(from(11, 20)...)
		require.Empty(t, running.Trouble())
		stop()
		s.running.Wait()
	})
}

// TestSkipPastLoss checks a copy that stands before lost messages whose events are unknown. After the skip that the copy's log names, the
// copy goes on without a restart, and no skipped event takes effect.
func TestSkipPastLoss(t *testing.T) {
	for name, test := range map[string]struct {
		before  int // events that the subscriber handles before the loss
		last    int // sequence of the last removed message
		then    int // events that come after the skip
		applied []int
	}{
		"the beginning of the stream": {last: 12, applied: from(13, 20)},
		"messages in the middle":      {before: 5, last: 12, applied: append(upTo(5), from(13, 20)...)},
		"the whole stream":            {last: 20, then: 3, applied: from(21, 23)},
	} {
		t.Run(name, func(t *testing.T) {
			skipTo := uint64(0)
			skip := func(_ string, to uint64) string { skipTo = to; return "" }
			runLossy(t, subscribing.Options{LossAdvice: skip}, 1, func(l *lossyService) {
				l.add(test.before)
				if test.before > 0 {
					_, stop := l.run("former", effectRecorder{copyHandler{l.service, "former"}}, l.inbox)
					pass(2 * time.Second)
					stop()
				}
				l.add(20 - test.before)
				l.remove(uint64(test.before)+1, uint64(test.last))
				l.rows.Purge(outbox.Position(test.last - 2))
			}, func(l *lossyService, running *subscribing.Subscriber) {
				require.NotEmpty(l.t, running.Trouble())
				require.Equal(l.t, uint64(test.last), skipTo)
				l.move(skipTo, true)
				l.add(test.then)
				pass(10 * time.Second)
				require.Empty(l.t, running.Trouble())
				l.requireApplied(test.applied...)
				l.requireCounts(0, 0)
			})
		})
	}
}
