// Package subscribing reads events from the stream, applies the effect of each event once, and keeps checkpoints. A program creates a
// Handler and a Subscriber for each subscriber id, and calls Run. Copies with the same id share the work.
//
// A subscriber has lanes. All events of an aggregate are in one lane, and each lane has a checkpoint in the subscriber's database. The copy
// that works on a lane reads the lane's events from the stream, and applies them in batches. One transaction records the events in the
// inbox, runs the handler, and moves the checkpoint. So an event that comes again is found in the inbox, and is dropped.
//
// All decisions of a subscriber are made here: which copy works on which lane (share.go), what is read (read.go), how many events share a
// transaction (lane.go), what a failure means (work.go, letters.go), what happens if the stream removed messages (holes.go) or lost its end
// (reconcile.go), and what is forgotten (sweep.go). docs/engine.md explains why this is safe.
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
	// heartbeatEvery is how often a copy announces itself, and looks at the checkpoints, the other copies and the end of the stream.
	heartbeatEvery = 300 * time.Millisecond
	// loneHeartbeatEvery takes the place of heartbeatEvery while there is no other copy and nothing to do. Nobody then waits for an
	// announcement of this copy. It is less than a second, because after a second the driver sends a ping before the next statement.
	loneHeartbeatEvery = 900 * time.Millisecond
	// heartbeatPause is the shortest time between two heartbeats.
	heartbeatPause = 50 * time.Millisecond
	// A copy takes a lane of another copy if the lane has events and has not moved for a while. If the other copy is silent, the copy waits
	// takeOverSilentAfter. If the other copy is alive, its handler may hang, and the copy waits takeOverAfter. If this copy does not keep up
	// with its own lanes, it waits takeOverBehindAfter: busy copies must not take each other's lanes.
	takeOverSilentAfter = 500 * time.Millisecond
	takeOverAfter       = 1500 * time.Millisecond
	takeOverBehindAfter = 5 * time.Second
	// recentMove is how long after a move another copy is probably still at work on a lane.
	recentMove = 100 * time.Millisecond
	// longestOutage is the longest wait during an outage of the stream, the database or a system that the handler calls. So work goes on soon
	// after the outage.
	longestOutage = time.Second
	// leaveTimeout bounds the call by which a copy withdraws its announcement.
	leaveTimeout = time.Second
)

// Ports are what a Subscriber drives.
type Ports struct {
	Stream      inbox.Stream
	Checkpoints inbox.Checkpoints
	Work        inbox.UnitOfWork
	Letters     inbox.DeadLetters
	Sweeper     inbox.Sweeper
	Notifier    relay.Notifier // wakes the relay when handlers emit events; nil: the relay finds these when it polls
	Log         inbox.Log
	// Handlers returns the handler of a name. For an empty name it returns the handler of a new subscriber. It fails if there is none.
	Handlers func(name string) (inbox.Handler, error)
}

// Subscriber is one copy of a subscriber.
type Subscriber struct {
	id, instance string
	ports        Ports
	opts         Options
	logger       *slog.Logger

	transactions chan struct{} // holds an element for each open transaction
	roomFreed    chan struct{} // a lane has room for events
	heartbeatNow chan struct{} // another copy took a lane
	troubles     troubles
	handler      inbox.Handler // set before there is a lane

	mu            sync.Mutex
	readerRests   bool          // the reader has read enough
	streamHasMore bool          // the stream had more than the last read returned
	behind        bool          // lanes have nothing to do because the reader does not keep up
	lanes         map[int]*lane // that this copy works on, by number
	laneCount     int           // lanes of the subscriber
	letterViews   int           // so many heartbeats have to find no letters before this copy stops looking for due ones
	suspended     bool          // the subscriber is paused, or an operator's change waits
	// wanted has each type of event that the subscriber wants, and whether the handler can handle it. wanted is from the last heartbeat. If
	// the types have changed since then, the lanes have new revisions, and no batch commits.
	wanted map[string]bool
	newest map[int]uint64 // sequence of the newest wanted event that was read, by lane
}

// New returns a copy of the subscriber id. instance names the copy. The copy does nothing until Run.
func New(id, instance string, ports Ports, opts Options, logger *slog.Logger) *Subscriber {
	opts = opts.orDefault()
	return &Subscriber{
		id: id, instance: instance, ports: ports, opts: opts, logger: logger,
		transactions: make(chan struct{}, opts.Transactions),
		roomFreed:    make(chan struct{}, 1),
		heartbeatNow: make(chan struct{}, 1),
		lanes:        make(map[int]*lane),
		letterViews:  1,
		newest:       make(map[int]uint64),
	}
}

// Run works until ctx ends, and returns nil once every handler has returned. A handler gets a context that ends with ctx. If the handler
// gives up, its event counts as not handled. Neither outages nor events that cannot be handled end Run. Run fails with
// inbox.ErrOtherHandler, with inbox.ErrForgotten, or with the error of Ports.Handlers. Call Run once.
func (s *Subscriber) Run(ctx context.Context) error {
	if begun, err := s.begin(ctx); !begun {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	work.Go(func() { s.readStream(ctx) })
	for range s.letterWorkers() {
		work.Go(func() { s.redeliver(ctx) })
	}
	if s.opts.Retention > 0 {
		work.Go(func() { s.sweep(ctx) })
	}
	err := s.shareLanes(ctx, &work)
	stop()
	work.Wait()
	s.leave(ctx)
	return err
}

// leave withdraws the announcement of this copy, so that the others take its lanes.
func (s *Subscriber) leave(ctx context.Context) {
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if failed := s.ports.Checkpoints.RemoveCopy(leaving, s.id, s.instance); failed != nil {
		s.logger.DebugContext(ctx, "cannot withdraw this copy; the other copies take its lanes in three seconds", "error", failed)
	}
}

// Trouble returns what keeps this copy from handling events at present; empty: nothing. It is safe for concurrent use.
func (s *Subscriber) Trouble() string { return s.troubles.text() }

// begin makes sure that the subscriber has lanes, and that it wants the types that the handler can handle. It returns false if ctx has
// ended, or if a person has to change something before this copy can work: then err says what.
func (s *Subscriber) begin(ctx context.Context) (begun bool, err error) {
	for failures := 0; ctx.Err() == nil; {
		lanes, wait, err := s.prepare(ctx)
		if lanes > 0 {
			s.laneCount = lanes
			s.troubles.end(ctx, s.logger, troubleBegin)
			s.logger.InfoContext(ctx, "subscribed", "lanes", lanes, "instance", s.instance, "handler", s.handler.Name())
			if lanes != s.opts.Lanes {
				s.logger.WarnContext(ctx, "the subscriber keeps the lanes that it began with, the setting counts only for a new one",
					"lanes", lanes, "setting", s.opts.Lanes)
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

// refusal is an error that ends the copy: a person has to change something before the copy can work.
type refusal struct{ error }

// prepare returns the number of the subscriber's lanes. If there are no lanes, prepare creates them if possible. Then it returns 0, and the
// wait before the next attempt.
func (s *Subscriber) prepare(ctx context.Context) (lanes int, wait time.Duration, err error) {
	view, err := s.ports.Checkpoints.Heartbeat(ctx, s.id, s.instance)
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
	former, found, err := s.ports.Stream.LegacyConsumer(ctx)
	if err != nil {
		return 0, 0, err
	}
	if found && former.Busy {
		s.troubles.begin(ctx, s.logger, troubleBegin, "waiting for copies of an earlier version to stop", errLegacyCopies)
		return 0, time.Second, nil
	}
	var at inbox.StreamPosition
	if found && former.Sequence > 0 {
		at, err = s.legacyPosition(ctx, former.Sequence)
		s.logger.InfoContext(ctx, "begins at the position of the earlier version's durable consumer", "sequence", former.Sequence)
	} else {
		at, err = s.startOfStream(ctx, state, maxProgress)
	}
	if err != nil {
		return 0, 0, err
	}
	return 0, 0, s.ports.Checkpoints.CreateLanes(ctx, s.id, s.opts.Lanes, state.Created, at)
}

// subscribe makes the subscriber want the types that the handler can handle.
func (s *Subscriber) subscribe(ctx context.Context) error {
	err := s.ports.Checkpoints.Subscribe(ctx, s.id, s.handler.Name(), s.handler.Types())
	if errors.Is(err, inbox.ErrOtherHandler) || errors.Is(err, inbox.ErrForgotten) {
		return refusal{err}
	}
	return err
}

var errLegacyCopies = errors.New("copies of this subscriber that run a former version are at work; this one begins when they have stopped")

// positionAt returns the position at a sequence, without a stored time if the message was removed.
func (s *Subscriber) positionAt(ctx context.Context, sequence uint64) (inbox.StreamPosition, error) {
	messages, err := s.ports.Stream.Read(ctx, sequence, inbox.ReadLimit{Count: 1})
	if err != nil {
		return inbox.StreamPosition{}, err
	}
	if len(messages) > 0 && messages[0].Sequence == sequence {
		return messages[0].StreamPosition, nil
	}
	return inbox.StreamPosition{Sequence: sequence}, nil
}

// legacyPosition returns the position of the last message that an earlier version of this program acknowledged. If that message was
// removed, legacyPosition takes the progress from the next message.
func (s *Subscriber) legacyPosition(ctx context.Context, sequence uint64) (inbox.StreamPosition, error) {
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
		at.Progress, _ = inbox.FirstRun(messages).ProgressBefore()
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

// signal sends a signal without waiting. If the channel still holds an earlier signal, signal sends nothing.
func signal(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

func describe(place inbox.StreamPosition) string {
	return fmt.Sprintf("sequence %d, stored at %s", place.Sequence, place.StoredAt.UTC().Format(time.RFC3339Nano))
}
