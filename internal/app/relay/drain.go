package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// reading is one read of the log that is under way.
type reading struct {
	done    chan struct{}
	cancel  context.CancelFunc
	entries []outbox.Entry
	err     error
}

func (r *Relay) read(ctx context.Context, after outbox.Progress) *reading {
	bounded, cancel := context.WithCancel(ctx)
	ahead := &reading{done: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(ahead.done)
		ahead.entries, ahead.err = r.Log.After(bounded, after, r.opts.Slice)
	}()
	return ahead
}

// stop throws the reading away and waits for its end.
func (a *reading) stop() {
	a.cancel()
	<-a.done
}

// drain publishes what follows place until something goes wrong or ctx ends. While a slice is being published, the next
// one is read. place is true to what the stream acknowledged whenever drain returns.
func (r *Relay) drain(ctx context.Context, t *tenure, place *place, logger *slog.Logger, retry *backoff) error {
	idle := backoff{least: r.opts.Poll / 16, most: r.opts.Poll}
	ahead := r.read(t.ctx, place.progress)
	defer func() { ahead.stop() }()
	for {
		if _, err := r.await(ctx, t, place, ahead.done, nil); err != nil {
			return err
		}
		ahead.cancel()
		entries, err := ahead.entries, ahead.err
		if err != nil {
			return unread(err)
		}
		if len(entries) == 0 {
			r.working(logger, place)
			retry.reset()
			if err := r.idle(ctx, t, place, idle.next()); err != nil {
				return err
			}
			ahead = r.read(t.ctx, place.progress)
			continue
		}
		if t.over() {
			return errExpired
		}
		idle.reset()
		ahead = r.read(t.ctx, entries[len(entries)-1].Progress())
		if err := r.publish(t, place, entries); err != nil {
			return err
		}
		r.working(logger, place)
		retry.reset()
	}
}

// idle waits for a wake-up. When none comes in time, it makes sure that the stream still ends where it did: a stream that
// lost messages, or is gone, would otherwise go unnoticed until there is something to publish.
func (r *Relay) idle(ctx context.Context, t *tenure, place *place, longest time.Duration) error {
	poll := time.NewTimer(longest)
	defer poll.Stop()
	woken, err := r.await(ctx, t, place, r.Alarm.C(), poll.C)
	if err != nil || woken {
		return err
	}
	info, err := r.Publisher.Open(t.ctx, false)
	if err == nil && (info.Created != place.created || info.LastSequence != place.sequence) {
		return ports.ErrTailMoved.With("the stream ends at sequence %d, not at %d", info.LastSequence, place.sequence)
	}
	return err
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
			if err := place.save(t.ctx, r.Cursors, t.term()); err != nil {
				return false, err
			}
		}
	}
}

// publish appends entries to the stream and moves place on by what was stored.
func (r *Relay) publish(t *tenure, place *place, entries []outbox.Entry) error {
	last, err := r.Publisher.Publish(t.ctx, place.sequence, entries)
	if stored := last - place.sequence; last > place.sequence && stored <= uint64(len(entries)) {
		place.advance(entries[stored-1].Progress(), last)
	}
	var refused *ports.RefusedError
	if errors.As(err, &refused) {
		return outbox.NewHalt(outbox.HaltUnpublishable, "event %s (%s, %s) at position %d: %s", refused.Entry.ID, refused.Entry.Type,
			refused.Entry.Key, refused.Entry.Position, refused.Reason)
	}
	if err == nil && place.due() == 0 {
		err = place.save(t.ctx, r.Cursors, t.term())
	}
	return err
}

func unread(err error) error {
	if errors.Is(err, ports.ErrHistoryLost) {
		return outbox.NewHalt(outbox.HaltHistoryLost, "%s", err.Error())
	}
	return err
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
