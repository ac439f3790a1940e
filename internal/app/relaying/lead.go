package relaying

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// lead works as the leader until the term ends, ctx ends, or the relay halts or gives up. Then it resigns, unless it has lost the lease
// or the lease has expired.
func (r *Relay) lead(ctx context.Context, term relay.Term) {
	logger := r.logger.With("token", term.Token)
	logger.InfoContext(ctx, "became leader")
	r.update(func(s *Status) {
		*s = Status{State: Leading, Token: term.Token, Counts: s.Counts}
		s.Elections++
	})

	withdraw := r.Liveness.Announce(term.Token)
	l := r.startLeadership(ctx, term)
	if r.opts.Retention > 0 {
		l.background.Go(func() { r.purge(l, logger) })
	}
	pos, halt := r.serve(ctx, l, logger)
	gaveUp := l.ctx.Err() == nil && ctx.Err() == nil
	reason := l.end()
	withdraw()
	if time.Now().Before(l.term().Deadline) {
		r.endedEarlyAt = time.Now()
	}

	if (ctx.Err() != nil || gaveUp) && !errors.Is(reason, relay.ErrLeaseLost) {
		reason = r.resign(ctx, l, pos)
		if gaveUp && errors.Is(reason, errResigned) {
			reason = errNoProgress
			if halt != nil {
				reason = errHalted
			}
		}
	}
	state := Following
	if halt != nil {
		state = Halted
	}
	r.update(func(s *Status) { *s = Status{State: state, Halt: halt, Counts: s.Counts} })
	logger.InfoContext(ctx, "lost leadership", "reason", reason)
	if gaveUp && halt == nil { // let other instances try first: a follower asks for the lease twice in this time
		sleep(ctx, ctx, 2*r.campaignInterval())
	}
}

var (
	errResigned   = errors.New("resigned")
	errNoProgress = errors.New("gave up: nothing worked for too long")
	errHalted     = errors.New("halted: another instance may try")
)

// giveUpAfter returns how long a leader may fail before it lets another instance try. The other instance may reach a broker or database
// that this instance cannot reach. At first the time is the lease's time to live. It doubles with each term in a row without a success.
func (r *Relay) giveUpAfter() time.Duration { return r.opts.LeaseTTL << min(r.fruitlessTerms, 4) }

// resignTimeout limits how long resigning takes. So a database that does not answer cannot delay the stop of an instance for longer.
const resignTimeout = 5 * time.Second

// resign saves the cursor and frees the lease, so that the next leader can start at once. If resign fails, the lease expires
// by itself.
func (r *Relay) resign(ctx context.Context, l *leadership, pos *streamPosition) error {
	until := time.Now().Add(resignTimeout)
	if deadline := l.term().Deadline; deadline.Before(until) {
		until = deadline
	}
	final, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	if pos != nil {
		if err := pos.saveIfChanged(final, r.Cursors, l); err != nil {
			r.logger.WarnContext(ctx, "cannot save the cursor while resigning", "error", err)
		}
	}
	if err := r.Elector.Resign(final, l.term()); err != nil {
		return err
	}
	r.Notifier.Notify()
	return errResigned
}

// serve takes over and drains, and repeats both after an error. It returns when the leadership or ctx ends, or when the relay halts or
// gives up. It returns the last position, and the halt if the relay halts.
func (r *Relay) serve(ctx context.Context, l *leadership, logger *slog.Logger) (*streamPosition, *relay.Halt) {
	retry := backoff{shortest: 10 * time.Millisecond, longest: r.opts.Poll}
	l.lastSuccess = time.Now()
	for {
		pos, err := r.takeOver(l, logger)
		if err == nil {
			err = r.drain(ctx, l, pos, logger, &retry)
			l.streamVerified.Store(false)
		}
		if ctx.Err() != nil || l.ctx.Err() != nil {
			return pos, nil
		}
		// Save the cursor first, with everything that the stream has acknowledged. The next take-over needs it to recognize a copied
		// message at the tail.
		var unsaved error
		if pos != nil {
			unsaved = pos.saveIfChanged(l.ctx, r.Cursors, l)
		}
		var halt *relay.Halt
		if errors.As(err, &halt) {
			if r.reportHalt(l, logger, halt) || time.Since(l.lastSuccess) >= r.giveUpAfter() {
				return pos, halt
			}
			sleep(ctx, l.ctx, retry.next())
			continue
		}
		if unsaved != nil {
			err = unsaved
		}
		if !overtaken(err) || time.Since(l.lastSuccess) > r.opts.LeaseTTL/2 {
			r.reportTrouble(logger, err)
		} else {
			logger.Debug("overtaken, taking over again", "error", err)
		}
		if time.Since(l.lastSuccess) >= r.giveUpAfter() {
			r.fruitlessTerms++
			return pos, nil
		}
		if again := retry.used(); again || !overtaken(err) {
			sleep(ctx, l.ctx, retry.next())
		} else {
			retry.next()
		}
		l.confirmLease()
	}
}

// succeeded records that the relay works: the relay has published something, or there was nothing to publish.
func (r *Relay) succeeded(l *leadership, logger *slog.Logger, pos *streamPosition) error {
	again := r.Status().Trouble != "" || r.haltedTerms > 0
	l.streamVerified.Store(true)
	l.lastSuccess, r.fruitlessTerms, r.haltedTerms = time.Now(), 0, 0
	r.update(func(s *Status) {
		s.State, s.Halt, s.Trouble = Leading, nil, ""
		s.Position, s.Sequence, s.Parked = pos.progress.Position, pos.lastOwn, pos.parkedWaiting
	})
	if again {
		logger.Info("relaying again", "position", pos.progress.Position)
	}
	return r.reportState(l, nil)
}

// overtaken reports whether err means that another relay, or an earlier request of this relay, came first.
func overtaken(err error) bool {
	return errors.Is(err, relay.ErrTailMoved) || errors.Is(err, relay.ErrStaleRevision)
}
