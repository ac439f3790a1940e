package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/internal/playground/processes"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// prove makes the checker compare the clients' answers with the log, the log with the stream, message by message, and both with the effects
// of subscribers.
func (s *scenario) prove(ctx context.Context, note Note) (string, error) {
	note("waiting until everybody has caught up")
	recovery := s.catchUp(ctx)
	note("reading the stream")
	verdict, err := checker.Verify(checker.History{
		Parked: checker.ReadParked(ctx, s.db), Log: checker.ReadLog(ctx, s.db),
		Stream:  checker.ReadStream(ctx, s.stream.js, streamName),
		Effects: checker.ReadEffects(ctx, s.db), Subscribers: Subscribers, Ledger: s.client.ledger.Ledger, Recovery: recovery,
		Service: ordercheck.New(s.client.ledger, ordercheck.ReadTotals(ctx, s.db), Subscribers...),
	})
	if err != nil {
		return "", err
	}
	if failed := verdict.Failed(); len(failed) > 0 {
		return "", fmt.Errorf("the checker found:\n%s", verdict)
	}
	s.verdict = verdict
	lines := []string{"violations that the checker found, of so many things that it looked at:"}
	for _, result := range verdict {
		lines = append(lines, fmt.Sprintf("%-33s %d of %d", result.Check, result.Count, result.Of))
	}
	return strings.Join(lines, "\n"), nil
}

// catchUp waits until the stream has every event of the log, and every subscriber has applied it.
func (s *scenario) catchUp(ctx context.Context) checker.Recovery {
	recovery, began := checker.Recovery{Bound: processes.WaitTimeout}, time.Now()
	err := processes.Await(ctx, 20*time.Millisecond, func() (bool, error) {
		var err error
		recovery.Behind, err = s.behind(ctx)
		return len(recovery.Behind) == 0, err
	})
	if recovery.Took = time.Since(began); err != nil && len(recovery.Behind) == 0 {
		recovery.Behind = []string{err.Error()}
	}
	return recovery
}

// behind names the relay or the subscribers that have not caught up.
func (s *scenario) behind(ctx context.Context) (who []string, err error) {
	var events int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM outbox").Scan(&events); err != nil {
		return nil, err
	}
	if stored := s.stream.count(); stored < events {
		who = append(who, fmt.Sprintf("the stream has %d messages, the log %d events", stored, events))
	}
	for _, subscriber := range Subscribers {
		var applied int
		err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM inbox WHERE subscriber = $1 AND applied_at IS NOT NULL", subscriber).
			Scan(&applied)
		if err != nil {
			return nil, err
		}
		if applied < events {
			if _, ended := s.fleet.Log(ctx, subscriber); ended != nil {
				return append(who, ended.Error()), ended // a dead subscriber never catches up
			}
			who = append(who, fmt.Sprintf("%s has applied %d of %d events", subscriber, applied, events))
		}
	}
	return who, nil
}
