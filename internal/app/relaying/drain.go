package relaying

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// reading is one read of the log that is under way.
type logRead struct {
	done   chan struct{}
	cancel context.CancelFunc
	page   relay.Page
	err    error
}

func (r *Relay) startRead(ctx context.Context, pos *streamPosition, after outbox.Progress) *logRead {
	bounded, cancel := context.WithCancel(ctx)
	limit := r.readLimit(pos)
	ahead := &logRead{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(ahead.done)
		ahead.page, ahead.err = r.Log.After(bounded, after, limit)
	}()
	return ahead
}

// stop throws the reading away and waits for its end.
func (a *logRead) stop() {
	a.cancel()
	<-a.done
}

// aFew events are published sooner than the log is read, so nothing is read meanwhile: the two would only take the processor
// from each other while a fresh event waits. And nothing is read directly afterwards, if there was no more: whatever follows
// was committed later, so its ring is still to be heard.
const smallBatch = 8

// lookEvery is how often a busy leader looks at the stream beside its appends. An append does not show that somebody has changed
// the stream's settings, for example that events are stored under other subjects from now on.
const streamCheckInterval = time.Second

// drain publishes what follows place until something goes wrong or ctx ends. While a slice of more than a few events is being
// published, the next one is read. Between slices the parking lot is attended to. place is true to what the stream acknowledged whenever
// drain returns.
func (r *Relay) drain(ctx context.Context, l *leadership, pos *streamPosition, logger *slog.Logger, retry *backoff) error {
	idle := backoff{shortest: r.opts.Poll / 16, longest: r.opts.Poll}
	ahead := r.startRead(l.ctx, pos, pos.progress)
	defer func() { ahead.stop() }()
	for {
		if err := r.awaitRead(ctx, l, pos, ahead, logger); err != nil {
			return err
		}
		ahead.cancel()
		entries, more, err := ahead.page.Entries, ahead.page.More, ahead.err
		if err != nil {
			return asLogHalt(err)
		}
		if l.expired() {
			return errLeaseExpired
		}
		whole := true
		if len(entries) > 0 {
			idle.reset()
			if len(entries) > smallBatch {
				ahead = r.startRead(l.ctx, pos, entries[len(entries)-1].Progress())
			}
			if whole, err = r.publish(l, pos, entries, logger); err != nil {
				return err
			}
		}
		redriven, err := r.redriveDue(l, pos, logger)
		if err != nil {
			return err
		}
		if err := r.succeeded(l, logger, pos); err != nil {
			return err
		}
		retry.reset()
		woken := true
		if len(entries) <= smallBatch && whole && !more && !redriven {
			if woken, err = r.waitIdle(ctx, l, pos, idle.next()); err != nil {
				return err
			}
		}
		if !woken || time.Since(pos.tailSeenAt) >= r.opts.Poll || time.Since(pos.checkedAt) >= streamCheckInterval {
			if err := r.checkStream(l, pos); err != nil {
				return err
			}
		}
		if len(entries) <= smallBatch || !whole {
			ahead.stop()
			ahead = r.startRead(l.ctx, pos, pos.progress)
		}
	}
}

// idle waits for a wake-up, and says whether there was one.
func (r *Relay) waitIdle(ctx context.Context, l *leadership, pos *streamPosition, longest time.Duration) (bool, error) {
	poll := time.NewTimer(longest)
	defer poll.Stop()
	return r.wait(ctx, l, pos, r.Listener.Notifications(), poll.C)
}

// awaitRead waits for the log, which may wait for open transactions, and looks after stream and parking lot meanwhile.
func (r *Relay) awaitRead(ctx context.Context, l *leadership, pos *streamPosition, ahead *logRead, logger *slog.Logger) error {
	for {
		poll := time.NewTimer(r.opts.Poll)
		ready, err := r.wait(ctx, l, pos, ahead.done, poll.C)
		poll.Stop()
		if ready || err != nil {
			return err
		}
		if l.expired() {
			return errLeaseExpired
		}
		if err := r.checkStream(l, pos); err != nil {
			return err
		}
		if _, err := r.redriveDue(l, pos, logger); err != nil {
			return err
		}
	}
}

// unmoved asks whether the stream is still the same and ends at place; a leader does so at least every poll. Otherwise a
// stream that lost messages, or is gone, would go unnoticed until there is something to publish. A stream that was lost from
// sight may have grown and gone back since, and what grew may have parked an aggregate. A take-over also sets the stream up again.
func (r *Relay) checkStream(l *leadership, pos *streamPosition) error {
	info, err := r.Publisher.Look(l.ctx)
	switch {
	case err != nil:
		return err
	case info.Session != pos.session:
		return relay.ErrTailMoved.With("the connection was lost")
	case info.Unreadable:
		return relay.ErrTailMoved.With("subscribers cannot read the stream as it is set now")
	case info.Created != pos.created || info.LastSequence != pos.sequence:
		return relay.ErrTailMoved.With("the stream ends at sequence %d, not at %d", info.LastSequence, pos.sequence)
	}
	pos.tailSeenAt, pos.checkedAt, pos.largest = time.Now(), time.Now(), info.Largest
	if time.Since(pos.verifiedAt) < cursorInterval {
		return nil
	}
	return r.verify(l.ctx, pos, relay.MessageMeta{Event: pos.progress.Position})
}

// await waits until ready or elapsed can be received from, says whether it was ready, and saves the cursor when it is due.
func (r *Relay) wait(
	ctx context.Context, l *leadership, pos *streamPosition, ready <-chan struct{}, elapsed <-chan time.Time,
) (bool, error) {
	for {
		var due <-chan time.Time
		if left := pos.saveDue(); left >= 0 {
			timer := time.NewTimer(left)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-l.ctx.Done():
			return false, context.Cause(l.ctx)
		case <-ready:
			return true, nil
		case <-elapsed:
			return false, nil
		case <-due:
			if err := pos.saveIfChanged(l.ctx, r.Cursors, l); err != nil {
				return false, err
			}
		}
	}
}

// deliver appends a slice of the log to the stream and moves place on. It answers false when it ended early, because an
// aggregate was parked, and the rest has to be read again.
func (r *Relay) publish(l *leadership, pos *streamPosition, entries []outbox.Entry, logger *slog.Logger) (whole bool, err error) {
	batch, err := r.publishable(l, pos, entries)
	if err != nil {
		return false, err
	}
	if len(batch) > 0 {
		last, err := r.Publisher.Publish(l.ctx, pos.sequence, batch)
		if stored := pos.countStored(last, batch); stored > 0 {
			pos.noteRecorded(batch[:stored])
			r.appended(pos, batch[stored-1].Progress(), last, logger)
		}
		var refused *relay.RefusedError
		if errors.As(err, &refused) {
			return false, r.park(l, pos, refused, logger)
		}
		if err != nil {
			return false, err
		}
	}
	pos.noteRecorded(entries)
	pos.skipTo(entries[len(entries)-1].Progress())
	if pos.saveDue() == 0 {
		err = pos.saveIfChanged(l.ctx, r.Cursors, l)
	}
	return err == nil, err
}

// stored is how many of batch were stored, if last is the stream's last sequence.
func (p *streamPosition) countStored(last uint64, batch []outbox.Entry) int {
	if last <= p.sequence || last-p.sequence > uint64(len(batch)) {
		return 0
	}
	return int(last - p.sequence)
}

func asLogHalt(err error) error {
	if errors.Is(err, relay.ErrHistoryLost) {
		return relay.NewHalt(relay.HaltHistoryLost, "%s", err.Error())
	}
	return asSequenceHalt(err)
}

// backoff doubles from least to most.
type backoff struct{ shortest, longest, last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(b.last*2, b.shortest), b.longest)
	return b.last
}

func (b *backoff) used() bool { return b.last > 0 }
func (b *backoff) reset()     { b.last = 0 }

func sleep(ctx, other context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-other.Done():
	case <-timer.C:
	}
}
