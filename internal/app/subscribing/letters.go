package subscribing

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// letterPoll is how often a copy looks for dead letters that are due, while the subscriber has letters. The heartbeats tell whether it has.
const letterPoll = time.Second

// redeliver tries dead letters that are due, while the lanes go on, until ctx ends. All copies share the letters of a subscriber, and so do
// the loops of one copy.
func (s *Subscriber) redeliver(ctx context.Context) {
	failures, savepoints := 0, false
	for ctx.Err() == nil {
		if s.isSuspended() || !s.mayHaveLetters() {
			sleep(ctx, letterPoll)
			continue
		}
		done, found, err := s.tryLetters(ctx, savepoints)
		var failed *inbox.EventError
		var collected *inbox.CollectedError
		switch {
		case ctx.Err() != nil:
		case errors.As(err, &failed), errors.As(err, &collected):
			savepoints = true
		case err != nil:
			failures++
			s.troubles.begin(ctx, s.logger, troubleLetters, "cannot try dead letters again at the moment, trying until it works", err)
			sleep(ctx, min(s.opts.backoff(failures), longestOutage))
		default:
			s.troubles.end(ctx, s.logger, troubleLetters)
			failures, savepoints = 0, false
			s.notifyRelay(done.Emitted)
			s.reportLetters(ctx, done)
			if !found {
				sleep(ctx, letterPoll)
			}
		}
	}
}

// mayHaveLetters reports whether the subscriber may have letters that are not discarded.
func (s *Subscriber) mayHaveLetters() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.letterViews > 0
}

// noteLetters records that this copy has made letters. The next heartbeat may not show them, because it may have been sent before.
func (s *Subscriber) noteLetters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letterViews = 2
}

// tryLetters tries the letters of one aggregate. If the handler is external, the transaction counts among those of Options.Transactions.
func (s *Subscriber) tryLetters(ctx context.Context, savepoints bool) (done inbox.Redelivered, found bool, err error) {
	if s.handler.External() {
		if !s.acquireTransaction(ctx) {
			return inbox.Redelivered{}, false, ctx.Err()
		}
		defer s.releaseTransaction()
	}
	return s.ports.Letters.Redeliver(ctx, s.id, s.redelivery(savepoints), s.transactionHandler(), s.letterFailures(ctx))
}

// letterFailures returns the policy for letters that fail again. An outage does not count as a failure: the letter is tried again soon, and
// letters of other aggregates do not wait for it.
func (s *Subscriber) letterFailures(ctx context.Context) inbox.FailurePolicy {
	return func(_ outbox.Entry, attempts int, err error) (inbox.Failure, error) {
		if ctx.Err() != nil {
			return inbox.Failure{}, err
		}
		failure := s.failure(attempts, err)
		if fault.KindOf(err) == fault.Unavailable {
			failure.Outage, failure.Wait = true, longestOutage
		}
		return failure, nil
	}
}

// reportLetters logs what a redelivery did.
func (s *Subscriber) reportLetters(ctx context.Context, done inbox.Redelivered) {
	for _, entry := range done.Applied[:min(len(done.Applied), fewEvents)] {
		s.logger.InfoContext(ctx, "a dead letter was handled", attributes(entry)...)
		s.handler.Applied(ctx, entry)
	}
	if more := len(done.Applied) - fewEvents; more > 0 {
		s.logger.InfoContext(ctx, "more dead letters of the aggregate were handled", "events", more)
	}
	if done.Failed != nil {
		s.reportFailure(ctx, *done.Failed)
	}
}
