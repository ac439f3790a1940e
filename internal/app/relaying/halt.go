package relaying

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// A halt is what one instance sees. Another one may see more: this one may be connected to the wrong broker. So a relay that
// must halt reports why, resigns, and does not try to lead again before it sees, without a lease and without writing to the
// log or the stream, that the cause has ended.

const (
	reportHaltEvery = 10 * time.Second // well within relay.HaltReportExpires
	longestRest     = time.Minute      // after a halt that came back
)

// halted tells operators why this leader must stop, and returns whether the report was kept. Without it they cannot repair
// anything, so the leader takes over once more, which gives the report another turn, before it resigns.
func (r *Relay) halted(t *tenure, logger *slog.Logger, halt *relay.Halt) (reported bool) {
	if before := r.Status().Halt; before == nil || before.Reason != halt.Reason {
		r.halts++
		logger.Error("relay halted", "reason", halt.Reason, "detail", halt.Detail)
	}
	r.update(func(s *Status) { s.State, s.Halt, s.Trouble = Halted, halt, "" })
	err := r.report(t, halt)
	if err != nil {
		logger.Debug("cannot report the halt yet", "error", err)
	}
	return err == nil
}

// report tells operators, who may ask any instance, whether the relay is halted.
func (r *Relay) report(t *tenure, halt *relay.Halt) error {
	if t.reported.Equal(halt) {
		return nil
	}
	err := t.write(t.ctx, func(ctx context.Context, turn relay.WriteFence) error { return r.Cursors.Report(ctx, turn, halt) })
	if err == nil {
		t.reported = halt
	}
	return err
}

// awaitRepair looks every poll whether the cause of the halt has ended, and returns when it has, when ctx ends, or after another
// term. A halt that comes back although it seemed to be over is looked at less and less often, so that leadership does not go
// around.
func (r *Relay) awaitRepair(ctx context.Context) {
	var recorded time.Time
	led := time.Now()
	for rest := min(r.opts.Poll<<min(max(r.halts-1, 0), 16), longestRest); ; rest = r.opts.Poll {
		halt := r.Status().Halt
		if time.Since(recorded) >= reportHaltEvery {
			if err := r.Halts.Record(ctx, halt); err == nil {
				recorded = time.Now()
			}
		}
		sleep(ctx, ctx, rest)
		if ctx.Err() != nil {
			break
		}
		reported, err := r.inspect(ctx)
		var now *relay.Halt
		if err == nil {
			r.logger.Info("the cause of the halt has ended", "reason", halt.Reason)
			break
		} else if !errors.As(err, &now) { // nothing is known, so the halt stands
			r.failed(r.logger, err)
			continue
		}
		if now.Reason != halt.Reason { // details may count what comes
			r.logger.Error("relay halted", "reason", now.Reason, "detail", now.Detail)
			recorded = time.Time{}
		}
		r.update(func(s *Status) { s.Halt, s.Trouble = now, "" })
		if reported == nil && time.Since(led) >= reportHaltEvery {
			led = time.Now()
			if term, err := r.Elector.Acquire(ctx, 0); err == nil {
				r.lead(ctx, term) // to report the halt: nobody else leads, and operators would not know what there is to repair
				return
			}
		}
	}
	r.resume(ctx)
}

// resume follows again, and takes the report of the halt back.
func (r *Relay) resume(ctx context.Context) {
	r.update(func(s *Status) { *s = Status{State: Following, Counts: s.Counts} })
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := r.Halts.Record(final, nil); err != nil {
		r.logger.Warn("cannot report that the instance is not halted any more", "error", err)
	}
}

// inspect does what a take-over does to find its place, without changing anything. Its error is the halt that a take-over would
// end in. It also returns the halt that the last leader reported.
func (r *Relay) inspect(ctx context.Context) (reported *relay.Halt, err error) {
	ctx, cancel := context.WithTimeout(ctx, inspectWithin)
	defer cancel()
	cursor, err := r.Cursors.Load(ctx)
	if err != nil {
		return nil, err
	}
	info, err := r.Publisher.Look(ctx)
	if errors.Is(err, relay.ErrStreamMissing) && cursor.StreamCreated == "" {
		return cursor.Halt, nil // the next leader makes it
	}
	here, _, err := r.judge(ctx, cursor, info, err)
	if err == nil {
		_, err = r.Log.After(ctx, here.progress, relay.ReadLimit{Count: 1, Bytes: 1, Largest: 1})
	}
	return cursor.Halt, unread(err)
}

// inspectWithin bounds inspect, which may wait for an open transaction that writes the log.
const inspectWithin = 10 * time.Second
