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

// advanceEvery is how often the checkpoint of a lane without events follows the stream, so that a copy that begins there has little
// to read.
const advanceEvery = time.Second

// work applies the events of a lane, until the lane is another copy's or ctx ends.
func (s *Subscriber) work(ctx context.Context, l *lane) {
	defer s.leaveLane(l)
	failures, moved := 0, time.Now()
	for ctx.Err() == nil {
		batch, state := s.nextBatch(l, time.Since(moved) >= advanceEvery)
		var err error
		switch state {
		case released:
			return
		case elsewhere:
			err = inbox.ErrLaneMoved
		case nothing:
			await(ctx, advanceEvery, l.wake)
			continue
		case lost:
			err = s.recover(ctx, l)
		case before:
			err = s.fill(ctx, l)
		case ready:
			err = s.apply(ctx, l, batch)
		}
		switch {
		case err == nil:
			s.troubles.end(ctx, s.logger, laneTrouble(l))
			failures, moved = 0, time.Now()
		case errors.Is(err, errAgain):
		case errors.Is(err, inbox.ErrLaneMoved):
			ring(s.lookNow)
			return
		case errors.Is(err, errLoss):
			s.troubles.begin(ctx, s.logger, laneTrouble(l), "stands before messages that were lost", err)
			await(ctx, lossPoll, l.wake)
		default:
			failures++
			s.troubles.begin(ctx, s.logger, laneTrouble(l), "cannot handle events at the moment, trying until it works", err)
			sleep(ctx, min(s.opts.backoff(failures), longestOutage))
		}
	}
}

// errAgain reports that a batch was not applied, and that what is different next time is known.
var errAgain = errors.New("apply the batch in another way")

func laneTrouble(l *lane) string { return "lane " + strconv.Itoa(l.checkpoint.Lane) }

// What a worker finds.
type finding int

const (
	nothing finding = iota
	ready
	lost
	before // a hole
	released
	elsewhere // somebody else moved the lane
)

// nextBatch returns what to do on a lane. advancing says that the checkpoint is to follow the stream even if there is no event.
func (s *Subscriber) nextBatch(l *lane, advancing bool) (inbox.Batch, finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case l.released:
		return inbox.Batch{}, released
	case l.moved():
		return inbox.Batch{}, elsewhere
	case l.lost:
		return inbox.Batch{}, lost
	case len(l.queue) == 0 && l.hole != nil:
		return inbox.Batch{}, before
	case len(l.queue) == 0 && l.missed.Count == 0 && (l.covering || !advancing || l.through.Sequence <= l.checkpoint.Sequence):
		return inbox.Batch{}, nothing
	}
	return l.next(), ready
}

// leaveLane ends the work on a lane.
func (s *Subscriber) leaveLane(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lanes[l.checkpoint.Lane] == l {
		delete(s.lanes, l.checkpoint.Lane)
	}
	s.troubles.forget(laneTrouble(l))
}

// apply applies a batch, and decides what a failure means.
func (s *Subscriber) apply(ctx context.Context, l *lane, batch inbox.Batch) error {
	if !s.occupy(ctx) {
		return ctx.Err()
	}
	defer s.vacate()
	handler := &timed{Handler: s.handlerNow()}
	outcome, err := s.ports.Work.Apply(ctx, s.id, batch, handler, s.judge(ctx))
	if err == nil {
		s.announce(outcome.Emitted)
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
		l.narrow(len(batch.Events))
	default:
		return err
	}
	return errAgain
}

// judge returns what is decided about a failure of a suspect event: an outage holds the lane, anything else is the event's own.
func (s *Subscriber) judge(ctx context.Context) inbox.Judge {
	return func(_ outbox.Entry, attempts int, err error) (inbox.Failure, error) {
		if ctx.Err() != nil || fault.KindOf(err) == fault.Unavailable {
			return inbox.Failure{}, err
		}
		return s.failure(attempts, err), nil
	}
}

func (s *Subscriber) failure(attempts int, err error) inbox.Failure {
	return inbox.Failure{
		Cause: err, Permanent: inbox.Permanent(err), Limit: s.opts.MaxAttempts, Wait: s.opts.backoff(attempts + 1),
	}
}

// timed measures how long a handler works. What a transaction takes besides does not grow with the batch: if it counted, a database that
// answers slowly would make batches smaller, and so everything slower still.
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

// applied notes what a transaction did, and how long the handler worked in it.
func (s *Subscriber) applied(l *lane, batch inbox.Batch, outcome inbox.Outcome, took time.Duration) {
	fresh := 0
	for _, result := range outcome.Results {
		if result == inbox.Applied {
			fresh++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.adapt(fresh, took, s.opts.BatchTime)
	if l.done(batch, outcome.Checkpoint) || s.resume(l) {
		ring(s.hungry)
	}
}
