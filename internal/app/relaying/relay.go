// Package relay moves events from the log to the stream: campaign, take over, drain, resign. Every retry decision of the
// engine lives here; docs/engine.md tells why it loses nothing and doubles nothing.
//
// Any number of relays may run. The lease decides which one tries; compare-and-swap on the stream's tail decides who
// succeeds, so two relays that both believe they lead are a waste, never an error.
package relaying

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Options are the relay's settings. All durations are real time.
type Options struct {
	LeaseTTL time.Duration   // how long a leader keeps the others waiting that is silent, but not known to be gone
	Poll     time.Duration   // longest time between two looks at an idle log: the safety net under lost wake-ups
	Slice    relay.ReadLimit // most that is read, and published, at once

	Retention time.Duration // how long the log is kept after it was published; 0: for ever
}

// Ports is everything that a relay drives.
type Ports struct {
	Log       relay.Log
	Cursors   relay.CursorStore
	Publisher relay.Publisher
	Parking   relay.Parking
	Retention relay.Retention
	Elector   relay.Elector
	Halts     relay.InstanceHalts
	Liveness  relay.Liveness
	Notifier  relay.Notifier
	Listener  relay.Listener
}

// State is what a relay is doing.
type State string

// The states of a relay.
const (
	Following State = "following" // another instance leads, or none could be asked
	Leading   State = "leading"
	Halted    State = "halted" // following, and not trying to lead: this instance found what it must not repair; see Status.Halt
)

// Status is a moment of a relay's life.
type Status struct {
	State    State
	Token    int64           // of the term, while leading
	Position outbox.Position // the last row of the log that is known to be dealt with
	Sequence uint64          // the stream's sequence there
	Halt     *relay.Halt     // why it is halted
	Trouble  string          // the last failure, until the relay works again
	Parked   bool            // events in the parking lot wait for an operator, or to be redriven
	Counts
}

// Counts is what happened since the start of the process.
type Counts struct {
	Elections int64 // terms of this instance
	TakeOvers int64 // of the stream: one at the start of each term, one after each conflict, outage and halt
	Heals     int64 // take-overs that found that the stream had lost acknowledged messages
}

// Relay is one instance's relay.
type Relay struct {
	Ports
	opts   Options
	logger *slog.Logger
	status atomic.Pointer[Status]

	others  others // of the stream, when it was looked at last
	strange uint64 // sequence of somebody else's message that was warned of last
	futile  int    // terms in a row that were given up without having published anything
	halts   int    // terms in a row that ended with a halt

	cutShort time.Time // when a term of this instance ended last before its lease did
}

// New returns a relay that does nothing until Run. The logger names the instance.
func New(driven Ports, opts Options, logger *slog.Logger) *Relay {
	r := &Relay{Ports: driven, opts: opts, logger: logger}
	r.status.Store(&Status{State: Following})
	return r
}

// Status returns what the relay is doing. It is safe for concurrent use.
func (r *Relay) Status() Status { return *r.status.Load() }

func (r *Relay) update(change func(*Status)) {
	status := r.Status()
	change(&status)
	r.status.Store(&status)
}

// lead relays while the term lasts. When ctx ends it resigns.
func (r *Relay) lead(ctx context.Context, term relay.Term) {
	logger := r.logger.With("token", term.Token)
	logger.InfoContext(ctx, "became leader")
	r.update(func(s *Status) {
		*s = Status{State: Leading, Token: term.Token, Counts: s.Counts}
		s.Elections++
	})

	withdraw := r.Liveness.Announce(term.Token)
	t := r.take(ctx, term)
	if r.opts.Retention > 0 {
		t.owned.Go(func() { r.purge(t, logger) })
	}
	place, halt := r.relay(ctx, t, logger)
	gaveUp := t.ctx.Err() == nil && ctx.Err() == nil
	reason := t.end()
	withdraw()
	if time.Now().Before(t.term().Deadline) {
		r.cutShort = time.Now()
	}

	if (ctx.Err() != nil || gaveUp) && !errors.Is(reason, relay.ErrLeaseLost) {
		reason = r.resign(ctx, t, place)
		if gaveUp && errors.Is(reason, errResigned) {
			reason = errFutile
			if halt != nil {
				reason = errHalted
			}
		}
	}
	state := Following
	if halt != nil {
		state = Halted
	}
	r.update(func(s *Status) { *s = Status{State: state, Halt: halt, Counts: s.Counts} })
	logger.InfoContext(ctx, "lost leadership", "reason", reason)
	if gaveUp && halt == nil { // followers try for the lease twice in that time
		sleep(ctx, ctx, 2*r.campaignEvery())
	}
}

var (
	errResigned = errors.New("resigned")
	errFutile   = errors.New("gave up: nothing worked for too long")
	errHalted   = errors.New("halted: another instance may try")
)

// patience is how long a leader may fail at everything before it lets another instance try, which may reach what it cannot:
// the lease's time to live at first, and twice as long each time that nobody had more luck.
func (r *Relay) patience() time.Duration { return r.opts.LeaseTTL << min(r.futile, 4) }

// farewell bounds resigning, so that a database that does not answer cannot hold up a stop.
const farewell = 5 * time.Second

// resign lets the next leader start at once, from a cursor that is up to date. If it fails the lease simply runs out.
func (r *Relay) resign(ctx context.Context, t *tenure, place *place) error {
	until := time.Now().Add(farewell)
	if deadline := t.term().Deadline; deadline.Before(until) {
		until = deadline
	}
	final, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	if place != nil {
		if err := place.save(final, r.Cursors, t); err != nil {
			r.logger.WarnContext(ctx, "cannot save the cursor while resigning", "error", err)
		}
	}
	if err := r.Elector.Resign(final, t.term()); err != nil {
		return err
	}
	r.Notifier.Notify()
	return errResigned
}

// relay takes over and drains until the tenure or ctx ends, until nothing has worked for too long, or until it must halt. It
// returns where it stood in the end, and why it is halted, if so.
func (r *Relay) relay(ctx context.Context, t *tenure, logger *slog.Logger) (*place, *relay.Halt) {
	retry := backoff{least: 10 * time.Millisecond, most: r.opts.Poll}
	t.worked = time.Now()
	for {
		place, err := r.takeOver(t, logger)
		if err == nil {
			err = r.drain(ctx, t, place, logger, &retry)
			t.placed.Store(false)
		}
		if ctx.Err() != nil || t.ctx.Err() != nil {
			return place, nil
		}
		// What was acknowledged is remembered before the stream is judged again: it tells a copied tail from a true one.
		var unsaved error
		if place != nil {
			unsaved = place.save(t.ctx, r.Cursors, t)
		}
		var halt *relay.Halt
		if errors.As(err, &halt) {
			if r.halted(t, logger, halt) || time.Since(t.worked) >= r.patience() {
				return place, halt
			}
			sleep(ctx, t.ctx, retry.next())
			continue
		}
		if unsaved != nil {
			err = unsaved
		}
		if !overtaken(err) || time.Since(t.worked) > r.opts.LeaseTTL/2 {
			r.failed(logger, err)
		} else {
			logger.Debug("overtaken, taking over again", "error", err)
		}
		if time.Since(t.worked) >= r.patience() {
			r.futile++
			return place, nil
		}
		if again := retry.used(); again || !overtaken(err) {
			sleep(ctx, t.ctx, retry.next())
		} else {
			retry.next()
		}
		t.confirm()
	}
}

// working records that the relay gets on: an empty log, or something published.
func (r *Relay) working(t *tenure, logger *slog.Logger, place *place) error {
	again := r.Status().Trouble != "" || r.halts > 0
	t.placed.Store(true)
	t.worked, r.futile, r.halts = time.Now(), 0, 0
	r.update(func(s *Status) {
		s.State, s.Halt, s.Trouble = Leading, nil, ""
		s.Position, s.Sequence, s.Parked = place.progress.Position, place.own, place.waiting
	})
	if again {
		logger.Info("relaying again", "position", place.progress.Position)
	}
	return r.report(t, nil)
}

// overtaken reports whether another relay, or an earlier request of this one, came first.
func overtaken(err error) bool {
	return errors.Is(err, relay.ErrTailMoved) || errors.Is(err, relay.ErrOutOfTurn)
}

func (r *Relay) failed(logger *slog.Logger, err error) {
	if r.Status().Trouble != err.Error() {
		logger.Warn("the relay is in trouble and tries again", "error", err)
	}
	r.update(func(s *Status) { s.Trouble = err.Error() })
}
