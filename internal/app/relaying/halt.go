package relaying

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// A halt depends on what one instance sees. Another instance may have no reason to halt, for example if this instance is connected to the
// wrong broker. So a relay that halts reports the reason and resigns. Then it checks whether the cause has ended, without the lease, and
// without a write to the log or the stream. It asks for the lease again when the cause has ended. While no leader has reported the halt,
// the relay also asks for the lease every haltReportInterval, because only a leader can report the halt.

const (
	haltReportInterval = 10 * time.Second // much shorter than relay.HaltReportExpires
	maxHaltPause       = time.Minute      // longest pause before the first check after a halt that came back
	inspectTimeout     = 10 * time.Second // inspect may wait for an open transaction
)

// reportHalt writes for operators why this leader halts, and returns whether the write succeeded. Operators need the report to repair the
// cause. If the write failed, the caller takes over again, which loads the revision, and reports the halt again before it resigns.
func (r *Relay) reportHalt(l *leadership, logger *slog.Logger, halt *relay.Halt) (reported bool) {
	if before := r.Status().Halt; before == nil || before.Reason != halt.Reason {
		r.haltedTerms++
		logger.Error("relay halted", "reason", halt.Reason, "detail", halt.Detail)
	}
	r.update(func(s *Status) { s.State, s.Halt, s.Trouble = Halted, halt, "" })
	err := r.reportState(l, halt)
	if err != nil {
		logger.Debug("cannot report the halt yet", "error", err)
	}
	return err == nil
}

// reportState writes for operators whether and why the relay is halted. It writes nothing if the last report said the same.
func (r *Relay) reportState(l *leadership, halt *relay.Halt) error {
	if l.reportedHalt.Equal(halt) {
		return nil
	}
	err := l.fencedWrite(l.ctx, func(ctx context.Context, fence relay.WriteFence) error { return r.Cursors.Report(ctx, fence, halt) })
	if err == nil {
		l.reportedHalt = halt
	}
	return err
}

// awaitRepair checks at each poll whether the cause of the halt has ended. It returns when the cause has ended, when ctx ends, or after
// another term. A halt may come back again and again although its cause seems to have ended. Then the pause before the first check
// doubles each time, so that the instances do not take the lease from each other all the time.
func (r *Relay) awaitRepair(ctx context.Context) {
	var recorded time.Time
	led := time.Now()
	for pause := min(r.opts.Poll<<min(max(r.haltedTerms-1, 0), 16), maxHaltPause); ; pause = r.opts.Poll {
		halt := r.Status().Halt
		if time.Since(recorded) >= haltReportInterval {
			if err := r.Halts.Record(ctx, halt); err == nil {
				recorded = time.Now()
			}
		}
		sleep(ctx, ctx, pause)
		if ctx.Err() != nil {
			break
		}
		reported, err := r.inspect(ctx)
		var now *relay.Halt
		if err == nil {
			r.logger.Info("the cause of the halt has ended", "reason", halt.Reason)
			break
		} else if !errors.As(err, &now) { // the check itself failed, so the halt stays
			r.reportTrouble(r.logger, err)
			continue
		}
		if now.Reason != halt.Reason { // the detail may contain numbers that change
			r.logger.Error("relay halted", "reason", now.Reason, "detail", now.Detail)
			recorded = time.Time{}
		}
		r.update(func(s *Status) { s.Halt, s.Trouble = now, "" })
		if reported == nil && time.Since(led) >= haltReportInterval {
			led = time.Now()
			if term, err := r.Elector.Acquire(ctx, 0); err == nil {
				r.lead(ctx, term) // nobody else leads, and only a leader can report the halt to operators
				return
			}
		}
	}
	r.resume(ctx)
}

// resume lets the relay follow again, and withdraws the instance's report of the halt.
func (r *Relay) resume(ctx context.Context) {
	r.update(func(s *Status) { *s = Status{State: Following, Counts: s.Counts} })
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	if err := r.Halts.Record(final, nil); err != nil {
		r.logger.Warn("cannot report that the instance is not halted any more", "error", err)
	}
}

// inspect finds the position as a take-over does, and changes nothing. If a take-over would end in a halt, inspect returns this halt as its
// error. It also returns the halt that the last leader reported.
func (r *Relay) inspect(ctx context.Context) (reported *relay.Halt, err error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	cursor, err := r.Cursors.Load(ctx)
	if err != nil {
		return nil, err
	}
	info, err := r.Publisher.Look(ctx)
	if errors.Is(err, relay.ErrStreamMissing) && cursor.StreamCreated == "" {
		return cursor.Halt, nil // the next leader creates the stream
	}
	pos, _, err := r.findPosition(ctx, cursor, info, err)
	if err == nil {
		_, err = r.Log.After(ctx, pos.progress, relay.ReadLimit{Count: 1, Bytes: 1, Largest: 1})
	}
	return cursor.Halt, asLogHalt(err)
}
