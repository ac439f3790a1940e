package relaying

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Options are the relay's settings.
type Options struct {
	LeaseTTL time.Duration   // how long a lease lasts if the leader does not renew it
	Poll     time.Duration   // longest time between two reads of an idle log, in case a notification is lost
	Batch    relay.ReadLimit // the most that the relay reads at once, and publishes at once

	Retention time.Duration // how long entries stay in the log after they were published; 0: for ever
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

// The states of a relay; see the package comment.
const (
	Following State = "following"
	Leading   State = "leading"
	Halted    State = "halted"
)

// Status is what a relay is doing and how far it has come.
type Status struct {
	State    State
	Token    int64           // fencing token of the term, while leading
	Position outbox.Position // the last row of the log that was dealt with, while leading
	Sequence uint64          // sequence of the relay's last message in the stream, while leading
	Halt     *relay.Halt     // why the relay is halted; nil: it is not
	Trouble  string          // the last failure; empty once the relay works again
	Parked   bool            // events in the parking lot wait for an operator, or to be redriven
	Counts
}

// Counts are numbers of what has happened since the process started.
type Counts struct {
	Elections int64 // terms of this instance
	TakeOvers int64 // one at the start of each term, and one after each conflict, outage and halt
	Heals     int64 // take-overs that found that the stream had lost acknowledged messages
}

// Relay is the relay of one instance.
type Relay struct {
	Ports
	opts   Options
	logger *slog.Logger
	status atomic.Pointer[Status]

	foreign        foreignRange // the messages of others that the last search found
	warnedForeign  uint64       // sequence of the message of somebody else about which the relay has warned last
	fruitlessTerms int          // terms in a row that ended without a success
	haltedTerms    int          // terms in a row that ended with a halt
	endedEarlyAt   time.Time    // when a term of this instance last ended before its deadline
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

// reportTrouble keeps err as the present trouble. If the same failure comes again at each retry, reportTrouble logs it only once.
func (r *Relay) reportTrouble(logger *slog.Logger, err error) {
	if r.Status().Trouble != err.Error() {
		logger.Warn("the relay is in trouble and tries again", "error", err)
	}
	r.update(func(s *Status) { s.Trouble = err.Error() })
}
