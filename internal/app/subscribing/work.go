package subscribing

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// advanceEvery is how often the checkpoint of a lane without events follows the stream, so that a copy that takes the lane has little to read.
const advanceEvery = time.Second

// workOn applies the events of a lane, until another copy takes the lane or ctx ends.
func (s *Subscriber) workOn(ctx context.Context, l *lane) {
	defer s.endLane(l)
	failures, moved := 0, time.Now()
	for ctx.Err() == nil {
		batch, state := s.nextTask(l, time.Since(moved) >= advanceEvery)
		var err error
		switch state {
		case taskEnd:
			return
		case taskLaneMoved:
			err = inbox.ErrLaneMoved
		case taskNone:
			await(ctx, advanceEvery, l.wake)
			continue
		case taskReconcile:
			err = s.reconcile(ctx, l)
		case taskFillHole:
			err = s.fillHole(ctx, l)
		case taskApply:
			err = s.apply(ctx, l, batch)
		}
		switch {
		case err == nil:
			s.troubles.end(ctx, s.logger, laneTrouble(l))
			failures, moved = 0, time.Now()
		case errors.Is(err, errRetryBatch):
		case errors.Is(err, inbox.ErrLaneMoved):
			signal(s.heartbeatNow)
			return
		case errors.Is(err, errLoss):
			s.troubles.begin(ctx, s.logger, laneTrouble(l), "stopped before lost messages", err)
			await(ctx, lossPoll, l.wake)
		default:
			failures++
			s.troubles.begin(ctx, s.logger, laneTrouble(l), "cannot handle events at the moment, trying until it works", err)
			sleep(ctx, min(s.opts.backoff(failures), longestOutage))
		}
	}
}

// errRetryBatch reports that a batch was not applied, and that the lane was changed so that the next attempt works differently.
var errRetryBatch = errors.New("apply the batch in another way")

func laneTrouble(l *lane) string { return "lane " + strconv.Itoa(l.checkpoint.Lane) }

// task is what the worker of a lane does next.
type task int

const (
	taskNone      task = iota
	taskApply          // apply a batch
	taskReconcile      // find out why the stream differs from what the lane knows
	taskFillHole       // read the events of a hole from the log
	taskEnd            // leave the lane to another copy
	taskLaneMoved      // leave the lane, because somebody else changed it
)

// nextTask returns what to do on a lane, and the batch for taskApply. If advancing is true, the checkpoint follows the stream even if there
// is no event.
func (s *Subscriber) nextTask(l *lane, advancing bool) (inbox.Batch, task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case l.released:
		return inbox.Batch{}, taskEnd
	case l.changedElsewhere():
		return inbox.Batch{}, taskLaneMoved
	case l.mismatch:
		return inbox.Batch{}, taskReconcile
	case len(l.queue) == 0 && l.hole != nil:
		return inbox.Batch{}, taskFillHole
	case len(l.queue) == 0 && l.missed.Count == 0 && (l.takenOver || !advancing || l.readTo.Sequence <= l.checkpoint.Sequence):
		return inbox.Batch{}, taskNone
	}
	return l.nextBatch(), taskApply
}

// endLane ends the work on a lane.
func (s *Subscriber) endLane(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes[l.checkpoint.Lane] == l {
		delete(s.lanes, l.checkpoint.Lane)
	}
	s.troubles.forget(laneTrouble(l))
}

// apply applies a batch. If an event fails, apply changes the lane so that the next attempt finds out which one, and fails with errRetryBatch.
func (s *Subscriber) apply(ctx context.Context, l *lane, batch inbox.Batch) error {
	if !s.acquireTransaction(ctx) {
		return ctx.Err()
	}
	defer s.releaseTransaction()
	handler := &timed{Handler: s.transactionHandler()}
	outcome, err := s.ports.Work.Apply(ctx, s.id, batch, handler, s.laneFailures(ctx))
	if err == nil {
		s.notifyRelay(outcome.Emitted)
		if len(outcome.Letters) > 0 {
			s.noteLetters()
		}
		s.applied(l, batch, outcome, handler.took)
		s.report(ctx, batch, outcome)
		return nil
	}
	if ctx.Err() != nil || fault.KindOf(err) == fault.Unavailable || errors.Is(err, inbox.ErrLaneMoved) {
		return err
	}
	var failed *inbox.EventError
	var collected *inbox.CollectedError
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.As(err, &failed):
		l.suspect(failed.Index)
	case errors.As(err, &collected) && len(batch.Events) == 1:
		l.suspect(0)
	case errors.As(err, &collected):
		l.halveBatch(len(batch.Events))
	default:
		return err
	}
	return errRetryBatch
}

// laneFailures returns the policy for suspect events: in an outage the whole lane waits, and any other failure counts as a failure of the
// event.
func (s *Subscriber) laneFailures(ctx context.Context) inbox.FailurePolicy {
	return func(_ outbox.Entry, attempts int, err error) (inbox.Failure, error) {
		if ctx.Err() != nil || fault.KindOf(err) == fault.Unavailable {
			return inbox.Failure{}, err
		}
		return s.failure(attempts, err), nil
	}
}

// failure returns the failure to record for an event, after a number of earlier failures.
func (s *Subscriber) failure(attempts int, err error) inbox.Failure {
	return inbox.Failure{
		Cause: err, Permanent: inbox.Permanent(err), Limit: s.opts.MaxAttempts, Wait: s.opts.backoff(attempts + 1),
	}
}

// timed measures how long a handler works. It leaves out the rest of the transaction, whose time does not grow with the batch. If that time
// counted, a slow database would make the batches smaller, and smaller batches would make everything even slower.
type timed struct {
	inbox.Handler
	took time.Duration
}

// Handle adds up the time of the calls.
func (t *timed) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	began := time.Now()
	defer func() { t.took += time.Since(began) }()
	return t.Handler.Handle(ctx, tx, entry)
}

// applied records in the lane what a transaction did, and how long the handler worked in it.
func (s *Subscriber) applied(l *lane, batch inbox.Batch, outcome inbox.Outcome, took time.Duration) {
	fresh := 0
	for _, result := range outcome.Results {
		if result == inbox.Applied {
			fresh++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.adaptBatchSize(fresh, took, s.opts.BatchTime)
	if l.batchDone(batch, outcome.Checkpoint) || s.readerMayGoOn(l) {
		signal(s.roomFreed)
	}
}
