package subscribing

import (
	"context"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// claim is how long a letter that was handed out to one copy is kept from the others. A handler that takes longer may run
// twice; its effect happens once all the same. After a crash nobody tries the letter for so long.
const claim = 30 * time.Second

// Retrier tries the dead letters of a subscriber again that are to be retried, through the same handler as the Loop and at
// the same time. Several copies may run: they share the letters, and of an aggregate only one is retried at a time.
type Retrier struct {
	subscriber string
	letters    inbox.DeadLetters
	handler    inbox.Handler
	opts       Options
	logger     *slog.Logger
}

// NewRetrier returns a retrier of one copy of a subscriber. It does nothing until Run. The logger names the subscriber.
func NewRetrier(
	subscriber string, letters inbox.DeadLetters, handler inbox.Handler, opts Options, logger *slog.Logger,
) *Retrier {
	return &Retrier{subscriber: subscriber, letters: letters, handler: handler, opts: opts.orDefault(), logger: logger}
}

// Run works until ctx ends; then it returns nil, once the handler has returned from the letter in hand. It is called once.
func (r *Retrier) Run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		letter, found, err := r.letters.Due(ctx, r.subscriber, claim)
		if err != nil && ctx.Err() == nil {
			failures++
			r.outage(ctx, failures, "cannot look for dead letters to retry, trying until it works", err)
		}
		if err == nil {
			failures = 0
		}
		if !found {
			sleep(ctx, r.opts.Poll)
			continue
		}
		r.try(ctx, letter)
	}
	return nil
}

// outage warns once, however long it lasts.
func (r *Retrier) outage(ctx context.Context, failures int, what string, err error) {
	level := slog.LevelDebug
	if failures == 1 {
		level = slog.LevelWarn
	}
	r.logger.Log(ctx, level, what, "error", err)
}

// try handles a letter. An outage is waited out here, because the letter is nobody else's meanwhile. A stop leaves the
// letter to the end of its claim.
func (r *Retrier) try(ctx context.Context, letter inbox.Letter) {
	for outages := 1; ctx.Err() == nil; outages++ {
		err := attempt(ctx, r.handler, letter.Entry)
		switch {
		case err == nil:
			r.logger.InfoContext(ctx, "a dead letter was handled", attributes(letter.Entry)...)
			return
		case ctx.Err() != nil:
			return
		case fault.KindOf(err) != fault.Unavailable:
			if err = r.fail(ctx, letter, err); err == nil {
				return
			}
		}
		r.outage(ctx, outages, "cannot retry a dead letter at the moment, trying until it works", err)
		sleep(ctx, min(r.opts.backoff(outages), longestOutage))
	}
}

// fail counts a failure of the letter, which is due again later or dead once more. It returns an error when it could not.
func (r *Retrier) fail(ctx context.Context, letter inbox.Letter, cause error) error {
	wait := r.opts.backoff(letter.Attempts + 1)
	failed, err := r.letters.Fail(ctx, r.subscriber, letter.Entry, inbox.Failure{Cause: cause, Limit: r.opts.MaxAttempts, Wait: wait})
	switch {
	case err != nil:
		return err
	case failed.State == inbox.Retrying:
		r.logger.ErrorContext(ctx, "cannot handle a dead letter, it is tried again", append(attributes(letter.Entry),
			"attempt", failed.Attempts, "of", r.opts.MaxAttempts, "wait", wait, "error", cause)...)
	default:
		report(ctx, r.logger, r.opts, r.subscriber, failed, cause)
	}
	return nil
}
