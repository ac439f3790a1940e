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
type reading struct {
	done   chan struct{}
	cancel context.CancelFunc
	page   relay.Page
	err    error
}

func (r *Relay) read(ctx context.Context, place *place, after outbox.Progress) *reading {
	bounded, cancel := context.WithCancel(ctx)
	limit := r.slice(place)
	ahead := &reading{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(ahead.done)
		ahead.page, ahead.err = r.Log.After(bounded, after, limit)
	}()
	return ahead
}

// stop throws the reading away and waits for its end.
func (a *reading) stop() {
	a.cancel()
	<-a.done
}

// aFew events are published sooner than the log is read, so nothing is read meanwhile: the two would only take the processor
// from each other while a fresh event waits. And nothing is read directly afterwards, if there was no more: whatever follows
// was committed later, so its ring is still to be heard.
const aFew = 8

// lookEvery is how often a busy leader looks at the stream beside its appends. An append does not show that somebody has changed
// the stream's settings, for example that events are stored under other subjects from now on.
const lookEvery = time.Second

// drain publishes what follows place until something goes wrong or ctx ends. While a slice of more than a few events is being
// published, the next one is read. Between slices the parking lot is attended to. place is true to what the stream acknowledged whenever
// drain returns.
func (r *Relay) drain(ctx context.Context, t *tenure, place *place, logger *slog.Logger, retry *backoff) error {
	idle := backoff{least: r.opts.Poll / 16, most: r.opts.Poll}
	ahead := r.read(t.ctx, place, place.progress)
	defer func() { ahead.stop() }()
	for {
		if err := r.awaitRead(ctx, t, place, ahead, logger); err != nil {
			return err
		}
		ahead.cancel()
		entries, more, err := ahead.page.Entries, ahead.page.More, ahead.err
		if err != nil {
			return unread(err)
		}
		if t.over() {
			return errExpired
		}
		whole := true
		if len(entries) > 0 {
			idle.reset()
			if len(entries) > aFew {
				ahead = r.read(t.ctx, place, entries[len(entries)-1].Progress())
			}
			if whole, err = r.deliver(t, place, entries, logger); err != nil {
				return err
			}
		}
		redriven, err := r.attend(t, place, logger)
		if err != nil {
			return err
		}
		if err := r.working(t, logger, place); err != nil {
			return err
		}
		retry.reset()
		woken := true
		if len(entries) <= aFew && whole && !more && !redriven {
			if woken, err = r.idle(ctx, t, place, idle.next()); err != nil {
				return err
			}
		}
		if !woken || time.Since(place.seen) >= r.opts.Poll || time.Since(place.looked) >= lookEvery {
			if err := r.unmoved(t, place); err != nil {
				return err
			}
		}
		if len(entries) <= aFew || !whole {
			ahead.stop()
			ahead = r.read(t.ctx, place, place.progress)
		}
	}
}

// idle waits for a wake-up, and says whether there was one.
func (r *Relay) idle(ctx context.Context, t *tenure, place *place, longest time.Duration) (bool, error) {
	poll := time.NewTimer(longest)
	defer poll.Stop()
	return r.await(ctx, t, place, r.Listener.Notifications(), poll.C)
}

// awaitRead waits for the log, which may wait for open transactions, and looks after stream and parking lot meanwhile.
func (r *Relay) awaitRead(ctx context.Context, t *tenure, place *place, ahead *reading, logger *slog.Logger) error {
	for {
		poll := time.NewTimer(r.opts.Poll)
		ready, err := r.await(ctx, t, place, ahead.done, poll.C)
		poll.Stop()
		if ready || err != nil {
			return err
		}
		if t.over() {
			return errExpired
		}
		if err := r.unmoved(t, place); err != nil {
			return err
		}
		if _, err := r.attend(t, place, logger); err != nil {
			return err
		}
	}
}

// unmoved asks whether the stream is still the same and ends at place; a leader does so at least every poll. Otherwise a
// stream that lost messages, or is gone, would go unnoticed until there is something to publish. A stream that was lost from
// sight may have grown and gone back since, and what grew may have parked an aggregate. A take-over also sets the stream up again.
func (r *Relay) unmoved(t *tenure, place *place) error {
	info, err := r.Publisher.Look(t.ctx)
	switch {
	case err != nil:
		return err
	case info.Session != place.session:
		return relay.ErrTailMoved.With("the connection was lost")
	case info.Unreadable:
		return relay.ErrTailMoved.With("subscribers cannot read the stream as it is set now")
	case info.Created != place.created || info.LastSequence != place.sequence:
		return relay.ErrTailMoved.With("the stream ends at sequence %d, not at %d", info.LastSequence, place.sequence)
	}
	place.seen, place.looked, place.largest = time.Now(), time.Now(), info.Largest
	if time.Since(place.verified) < cursorEvery {
		return nil
	}
	return r.verify(t.ctx, place, relay.MessageMeta{Event: place.progress.Position})
}

// await waits until ready or elapsed can be received from, says whether it was ready, and saves the cursor when it is due.
func (r *Relay) await(
	ctx context.Context, t *tenure, place *place, ready <-chan struct{}, elapsed <-chan time.Time,
) (bool, error) {
	for {
		var due <-chan time.Time
		if left := place.due(); left >= 0 {
			timer := time.NewTimer(left)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-t.ctx.Done():
			return false, context.Cause(t.ctx)
		case <-ready:
			return true, nil
		case <-elapsed:
			return false, nil
		case <-due:
			if err := place.save(t.ctx, r.Cursors, t); err != nil {
				return false, err
			}
		}
	}
}

// deliver appends a slice of the log to the stream and moves place on. It answers false when it ended early, because an
// aggregate was parked, and the rest has to be read again.
func (r *Relay) deliver(t *tenure, place *place, entries []outbox.Entry, logger *slog.Logger) (whole bool, err error) {
	batch, err := r.publishable(t, place, entries)
	if err != nil {
		return false, err
	}
	if len(batch) > 0 {
		last, err := r.Publisher.Publish(t.ctx, place.sequence, batch)
		if stored := place.stored(last, batch); stored > 0 {
			place.passed(batch[:stored])
			r.appended(place, batch[stored-1].Progress(), last, logger)
		}
		var refused *relay.RefusedError
		if errors.As(err, &refused) {
			return false, r.park(t, place, refused, logger)
		}
		if err != nil {
			return false, err
		}
	}
	place.passed(entries)
	place.skip(entries[len(entries)-1].Progress())
	if place.due() == 0 {
		err = place.save(t.ctx, r.Cursors, t)
	}
	return err == nil, err
}

// stored is how many of batch were stored, if last is the stream's last sequence.
func (p *place) stored(last uint64, batch []outbox.Entry) int {
	if last <= p.sequence || last-p.sequence > uint64(len(batch)) {
		return 0
	}
	return int(last - p.sequence)
}

func unread(err error) error {
	if errors.Is(err, relay.ErrHistoryLost) {
		return relay.NewHalt(relay.HaltHistoryLost, "%s", err.Error())
	}
	return disordered(err)
}

// backoff doubles from least to most.
type backoff struct{ least, most, last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(b.last*2, b.least), b.most)
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
