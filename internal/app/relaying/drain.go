package relaying

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// logRead is a read of the log in the background.
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

// emptyRead returns a read that has ended without entries, for a leader that knows that it would find none.
func emptyRead() *logRead {
	done := make(chan struct{})
	close(done)
	return &logRead{done: done, cancel: func() {}}
}

// stop cancels the read and waits until it has ended.
func (a *logRead) stop() {
	a.cancel()
	<-a.done
}

// smallBatch is the largest number of entries in a small batch. While the relay publishes a small batch, it does not read ahead, because
// publishing is faster than a read. After a small batch it does not read at once either, unless the page reported More: each further
// event commits later, and its notification is still to come.
const smallBatch = 8

// streamCheckInterval is how often a busy leader checks the stream's settings. An append does not show that somebody has changed the
// settings, for example that the stream now stores events under other subjects.
const streamCheckInterval = time.Second

// drain publishes the entries after pos until an error or the end of ctx. While it publishes a large batch, it reads the next batch.
// Between two batches it redrives the events for which operators asked. When drain returns, pos includes everything that the stream has
// acknowledged.
func (r *Relay) drain(ctx context.Context, l *leadership, pos *streamPosition, logger *slog.Logger, retry *backoff) error {
	polling, announced := newPolling(r.opts.Poll), true
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
		polling.noteRead(len(entries) > 0, announced)
		whole := true
		if len(entries) > 0 {
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
		if len(entries) <= smallBatch && whole && !more && !redriven {
			if announced, err = r.waitIdle(ctx, l, pos, polling.next()); err != nil {
				return err
			}
		}
		mayFind := true
		if time.Since(pos.tailSeenAt) >= r.opts.Poll || time.Since(pos.checkedAt) >= streamCheckInterval {
			if mayFind, err = r.checkStream(l, pos); err != nil {
				return err
			}
		}
		if len(entries) <= smallBatch || !whole {
			ahead.stop()
			if ahead = emptyRead(); mayFind {
				ahead = r.startRead(l.ctx, pos, pos.progress)
			}
		}
	}
}

// waitIdle waits for a notification, at most for longest. It reports whether there was a notification.
func (r *Relay) waitIdle(ctx context.Context, l *leadership, pos *streamPosition, longest time.Duration) (bool, error) {
	poll := time.NewTimer(longest)
	defer poll.Stop()
	return r.wait(ctx, l, pos, r.Listener.Notifications(), poll.C)
}

// awaitRead waits until the read has ended. The read may wait for open transactions. Meanwhile awaitRead checks the stream and redrives
// parked events.
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
		if _, err := r.checkStream(l, pos); err != nil {
			return err
		}
		if _, err := r.redriveDue(l, pos, logger); err != nil {
			return err
		}
	}
}

// checkStream checks that the stream is still the same and still ends at pos. If not, it returns an error, and the leader takes over
// again. A leader calls checkStream at least once a poll, so that it notices a loss before the next event. After a lost connection the
// leader always takes over again: meanwhile another leader may have appended messages, and the stream may have lost these messages.
//
// Once a second checkStream also verifies the log. It returns false if the log had no entries after pos then, so that a read is not needed.
func (r *Relay) checkStream(l *leadership, pos *streamPosition) (mayFind bool, err error) {
	info, err := r.Publisher.Look(l.ctx)
	switch {
	case err != nil:
		return false, err
	case info.Session != pos.session:
		return false, relay.ErrTailMoved.With("the connection was lost")
	case info.Unreadable:
		return false, relay.ErrTailMoved.With("subscribers cannot read the stream as it is set now")
	case info.Created != pos.created || info.LastSequence != pos.sequence:
		return false, relay.ErrTailMoved.With("the stream ends at sequence %d, not at %d", info.LastSequence, pos.sequence)
	}
	pos.tailSeenAt, pos.checkedAt, pos.largest = time.Now(), time.Now(), info.Largest
	if time.Since(pos.verifiedAt) < cursorInterval {
		return true, nil
	}
	return r.verify(l.ctx, pos, relay.MessageMeta{Event: pos.progress.Position})
}

// wait waits for a value from ready or elapsed, or until one of them is closed. It reports whether ready came first. Meanwhile it saves
// the cursor when the save is due.
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

// publish appends entries to the stream and moves pos on. It reports whether it dealt with all entries. If the broker
// refuses an entry, publish returns false, and the caller reads the rest again.
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
