// Package subscribing is what a subscriber does with events: read them, apply the effect of each once, and keep a checkpoint.
// A program makes one Subscriber for each subscriber id and calls Run; copies with the same id share the work.
//
// Every decision of a subscriber lives here: which copy works on which lane, how many events share a transaction, what a failure
// means, and where to go on when the stream has lost messages. docs/engine.md says why it holds.
package subscribing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	// lookEvery is how often a copy looks at the checkpoints, the other copies and the end of the stream.
	lookEvery = 300 * time.Millisecond
	// lookAgain is the shortest time between two looks.
	lookAgain = 50 * time.Millisecond
	// unmoved is how long a lane of another copy stands still, with events waiting, before this copy takes it: if the other one has gone
	// silent; if it has not, so that its handler may hang; and if this copy does not keep up with its own lanes. Copies that have too much
	// to do and took each other's lanes would have even more to do.
	unmovedSilent = 500 * time.Millisecond
	unmoved       = 1500 * time.Millisecond
	unmovedBehind = 5 * time.Second
	// justMoved is how long ago somebody has moved a lane who probably is about to do so again.
	justMoved = 100 * time.Millisecond
	// longestOutage is the longest wait while the stream, or what the handler works on, cannot be reached. An outage says nothing
	// about the event, so work goes on soon after it.
	longestOutage = time.Second
	// leaveTimeout bounds what a copy says when it stops.
	leaveTimeout = time.Second
)

// Ports are what a Subscriber drives.
type Ports struct {
	Stream      inbox.Stream
	Checkpoints inbox.Checkpoints
	Work        inbox.UnitOfWork
	Letters     inbox.DeadLetters
	Sweeper     inbox.Sweeper
	Notifier    relay.Notifier // is told of events that handlers emit; nil: the relay finds them when it polls
	Log         inbox.Log
	// Handlers returns the handler of a name, and for an empty one the handler of a new subscriber. It fails if there is none.
	Handlers func(name string) (inbox.Handler, error)
}

// Subscriber is one copy of a subscriber.
type Subscriber struct {
	id, instance string
	ports        Ports
	opts         Options
	logger       *slog.Logger

	transactions chan struct{} // holds an element for each transaction under way
	hungry       chan struct{} // a lane has room for events
	lookNow      chan struct{} // a lane was lost to another copy
	troubles     troubles
	handler      inbox.Handler // set before there is a lane

	mu     sync.Mutex
	rests  bool          // the reader has read enough
	more   bool          // the stream had more than the last read returned
	behind bool          // lanes have nothing to do because the reader does not keep up
	lanes  map[int]*lane // that this copy works on, by number
	count  int           // lanes of the subscriber
	idles  bool          // the subscriber is paused, or makes way
	// wanted are the types of events that the subscriber wants, and whether the handler has a function for each. They are of the moment
	// at which the lanes were looked at last. A lane that knows others is at another revision, and cannot commit.
	wanted map[string]bool
	newest map[int]uint64 // sequence of the newest event that was read of each lane
}

// New returns a copy of a subscriber, known by the name of its instance. It does nothing until Run. The logger names the subscriber.
func New(id, instance string, ports Ports, opts Options, logger *slog.Logger) *Subscriber {
	opts = opts.orDefault()
	return &Subscriber{
		id: id, instance: instance, ports: ports, opts: opts, logger: logger,
		transactions: make(chan struct{}, opts.Transactions),
		hungry:       make(chan struct{}, 1),
		lookNow:      make(chan struct{}, 1),
		lanes:        make(map[int]*lane),
		newest:       make(map[int]uint64),
	}
}

// Run works until ctx ends, and then returns nil once every handler has returned. A handler sees the end of ctx too: it may finish,
// or give up, and its event counts as not handled. Neither outages nor events that cannot be handled ever end Run. It fails with
// inbox.ErrOtherHandler, with inbox.ErrForgotten, or if the program does not have the subscriber's handler. It is called once.
func (s *Subscriber) Run(ctx context.Context) error {
	if begun, err := s.begin(ctx); !begun {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	work.Go(func() { s.read(ctx) })
	for range s.letterWorkers() {
		work.Go(func() { s.redeliver(ctx) })
	}
	if s.opts.Retention > 0 {
		work.Go(func() { s.sweep(ctx) })
	}
	err := s.share(ctx, &work)
	stop()
	work.Wait()
	s.leave(ctx)
	return err
}

// leave tells the other copies that this one does not work.
func (s *Subscriber) leave(ctx context.Context) {
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if failed := s.ports.Checkpoints.Leave(leaving, s.id, s.instance); failed != nil {
		s.logger.DebugContext(ctx, "cannot take the announcement back, the other copies go on in three seconds", "error", failed)
	}
}

// Trouble returns what keeps this copy from handling events at present; empty: nothing. It is safe for concurrent use.
func (s *Subscriber) Trouble() string { return s.troubles.text() }

// begin makes sure that the subscriber has lanes, and wants what the handler can handle. It returns false when ctx has ended, or with the
// reason why this copy cannot work before a person changes something.
func (s *Subscriber) begin(ctx context.Context) (begun bool, err error) {
	for failures := 0; ctx.Err() == nil; {
		lanes, wait, err := s.prepare(ctx)
		if lanes > 0 {
			s.count = lanes
			s.troubles.end(ctx, s.logger, troubleBegin)
			s.logger.InfoContext(ctx, "subscribed", "lanes", lanes, "instance", s.instance, "handler", s.handler.Name())
			if lanes != s.opts.Lanes {
				s.logger.WarnContext(ctx, "the subscriber keeps the lanes that it began with, SUBSCRIBER_LANES counts only for a new one",
					"lanes", lanes, "SUBSCRIBER_LANES", s.opts.Lanes)
			}
			return true, nil
		}
		if refused := new(refusal); errors.As(err, refused) {
			return false, refused.error
		}
		if err != nil {
			failures++
			s.troubles.begin(ctx, s.logger, troubleBegin, "cannot begin, trying until it works", err)
			wait = min(s.opts.backoff(failures), longestOutage)
		}
		sleep(ctx, wait)
	}
	return false, nil
}

// refusal is a reason why a copy cannot work before a person changes something.
type refusal struct{ error }

// prepare returns how many lanes the subscriber has. It makes them if there is nothing in the way; else it returns 0, and how long
// to wait.
func (s *Subscriber) prepare(ctx context.Context) (lanes int, wait time.Duration, err error) {
	view, err := s.ports.Checkpoints.Look(ctx, s.id, s.instance)
	if err != nil {
		return 0, 0, err
	}
	if s.handler, err = s.ports.Handlers(cmp.Or(s.opts.Handler, view.Handler)); err != nil {
		return 0, 0, refusal{err}
	}
	if len(view.Lanes) > 0 || !view.Forgotten.IsZero() {
		if err := s.subscribe(ctx); err != nil {
			return 0, 0, err
		}
		return len(view.Lanes), 0, nil
	}
	state, err := s.ports.Stream.State(ctx)
	if err != nil {
		return 0, 0, err
	}
	former, found, err := s.ports.Stream.Former(ctx)
	if err != nil {
		return 0, 0, err
	}
	if found && former.Busy {
		s.troubles.begin(ctx, s.logger, troubleBegin, "standing by", errFormerCopies)
		return 0, time.Second, nil
	}
	var at inbox.StreamPosition
	if found && former.Sequence > 0 {
		at, err = s.formerPlace(ctx, former.Sequence)
		s.logger.InfoContext(ctx, "goes on where the durable consumer of the former program stands", "sequence", former.Sequence)
	} else {
		at, err = s.beginning(ctx, state, everything)
	}
	if err != nil {
		return 0, 0, err
	}
	return 0, 0, s.ports.Checkpoints.Begin(ctx, s.id, s.opts.Lanes, state.Created, at)
}

// subscribe makes the subscriber want what the handler can handle.
func (s *Subscriber) subscribe(ctx context.Context) error {
	err := s.ports.Checkpoints.Subscribe(ctx, s.id, s.handler.Name(), s.handler.Types())
	switch {
	case errors.Is(err, inbox.ErrOtherHandler):
		return refusal{fmt.Errorf("%w: leave --handler (SUBSCRIBER_HANDLER) out, or take another id", err)}
	case errors.Is(err, inbox.ErrForgotten):
		return refusal{err}
	}
	return err
}

var errFormerCopies = errors.New("copies of this subscriber that run a former version are at work; this one begins when they have stopped")

// placeOf returns the place of a message, without its time if it was removed.
func (s *Subscriber) placeOf(ctx context.Context, sequence uint64) (inbox.StreamPosition, error) {
	messages, err := s.ports.Stream.Read(ctx, sequence, inbox.ReadLimit{Count: 1})
	if err != nil {
		return inbox.StreamPosition{}, err
	}
	if len(messages) > 0 && messages[0].Sequence == sequence {
		return messages[0].StreamPosition, nil
	}
	return inbox.StreamPosition{Sequence: sequence}, nil
}

// formerPlace returns the place of the message that a program of before acknowledged last. If that was removed, the next message says how far
// the log was dealt with.
func (s *Subscriber) formerPlace(ctx context.Context, sequence uint64) (inbox.StreamPosition, error) {
	messages, err := s.ports.Stream.Read(ctx, sequence, inbox.ReadLimit{Count: readCount, Bytes: readBytes})
	if err != nil {
		return inbox.StreamPosition{}, err
	}
	at := inbox.StreamPosition{Sequence: sequence}
	switch {
	case len(messages) == 0:
	case messages[0].Sequence == sequence:
		return messages[0].StreamPosition, nil
	case messages[0].Sequence == sequence+1:
		at.Progress, _ = inbox.Follow(messages).Dealt()
	}
	return at, nil
}

func sleep(ctx context.Context, wait time.Duration) { await(ctx, wait, nil) }

// await waits for a signal, for a time, or for the end of ctx.
func await(ctx context.Context, wait time.Duration, signal <-chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-signal:
	}
}

// ring signals without waiting.
func ring(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

func describe(place inbox.StreamPosition) string {
	return fmt.Sprintf("sequence %d, stored at %s", place.Sequence, place.StoredAt.UTC().Format(time.RFC3339Nano))
}
