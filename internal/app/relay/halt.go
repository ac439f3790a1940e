package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// A halt is what one instance sees. Another one may see more: this one may be connected to the wrong broker. So a relay that
// must halt reports why, resigns, and does not try to lead again before it sees, without a lease and without writing to the
// log or the stream, that the cause has ended.

const (
	reportHaltEvery = 10 * time.Second // well within ports.HaltReportExpires
	longestRest     = time.Minute      // after a halt that came back
)

// halted reports why this leader must stop.
func (r *Relay) halted(t *tenure, logger *slog.Logger, halt *outbox.Halt) {
	r.halts++
	r.update(func(s *Status) { s.State, s.Halt, s.Trouble = Halted, halt, "" })
	logger.Error("relay halted", "reason", halt.Reason, "detail", halt.Detail)
	if err := r.report(t, halt); err != nil {
		logger.Warn("cannot report the halt", "error", err)
	}
}

// report tells operators, who may ask any instance, whether the relay is halted.
func (r *Relay) report(t *tenure, halt *outbox.Halt) error {
	if t.reported.Equal(halt) {
		return nil
	}
	err := t.write(t.ctx, func(ctx context.Context, turn outbox.Turn) error { return r.Cursors.Report(ctx, turn, halt) })
	if err == nil {
		t.reported = halt
	}
	return err
}

// awaitRepair looks every poll whether the cause of the halt has ended, and returns when it has, or when ctx ends. A halt that
// comes back although it seemed to be over is looked at less and less often, so that leadership does not go around.
func (r *Relay) awaitRepair(ctx context.Context) {
	var reported time.Time
	rest := min(r.opts.Poll<<min(r.halts-1, 16), longestRest)
	for {
		halt := r.Status().Halt
		if time.Since(reported) >= reportHaltEvery {
			if err := r.Halts.Record(ctx, halt); err == nil {
				reported = time.Now()
			}
		}
		sleep(ctx, ctx, rest)
		rest = r.opts.Poll
		if ctx.Err() != nil {
			break
		}
		err := r.inspect(ctx)
		var now *outbox.Halt
		switch {
		case errors.As(err, &now):
			if !now.Equal(halt) {
				r.logger.Error("relay halted", "reason", now.Reason, "detail", now.Detail)
				reported = time.Time{}
			}
			r.update(func(s *Status) { s.Halt, s.Trouble = now, "" })
			continue
		case err != nil: // nothing is known, so the halt stands
			r.failed(r.logger, err)
			continue
		}
		r.logger.Info("the cause of the halt has ended", "reason", halt.Reason)
		break
	}
	r.update(func(s *Status) { *s = Status{State: Following, Counts: s.Counts} })
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := r.Halts.Record(final, nil); err != nil {
		r.logger.Warn("cannot report that the instance is not halted any more", "error", err)
	}
}

// inspect does what a take-over does to find its place, without changing anything, and returns the halt that it would end in.
func (r *Relay) inspect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, inspectWithin)
	defer cancel()
	cursor, err := r.Cursors.Load(ctx)
	if err != nil {
		return err
	}
	info, err := r.Publisher.Look(ctx)
	if errors.Is(err, ports.ErrStreamMissing) && cursor.StreamCreated == "" {
		return nil // the next leader makes it
	}
	here, _, err := r.judge(ctx, cursor, info, err)
	if err != nil {
		return err
	}
	_, err = r.Log.After(ctx, here.progress, outbox.Slice{Count: 1, Bytes: 1})
	return unread(err)
}

// inspectWithin bounds inspect, which may wait for an open transaction that writes the log.
const inspectWithin = 10 * time.Second
