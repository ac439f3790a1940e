// Package operations holds the ports for people who run the relay and its subscribers. These people see how far relay and subscribers
// have come, and decide about events that wait for a decision. The HTTP admin listener and the commands of cmd/outboxie drive
// SubscriberAdmin, DeadLetterFinder and UndecidedEventsAdmin. Package operating in internal/app implements these three; the database
// implements the other ports.
//
// The methods of these ports need no lease. They only record a decision or repair the state. The relay or the subscriber then acts on the
// new state.
package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// ErrNoRight reports that the database role of the process has no right to do what was asked. A person has to grant the right.
var ErrNoRight = fault.New(fault.Internal, "no_right", "the database role of this process has no right to do this")

// RelayInspector reads the relay's state from the database.
type RelayInspector interface {
	EventLog
	// Status returns the state of the log and the relay. It counts the unpublished events; everything else is cheap to read, whatever the
	// size of the log.
	Status(ctx context.Context) (RelayStatus, error)
	// Measure returns how far the relay is behind. Its cost does not grow with the backlog. The caller may know a newer
	// position than the cursor in the database: everything up to known counts as dealt with too. 0: the caller knows none.
	Measure(ctx context.Context, known outbox.Position) (RelayMetrics, error)
}

// EventLog shows the log to people.
type EventLog interface {
	// List returns the newest committed entries that match, at most filter.Limit, the newest first. Some of them may not be published yet,
	// because an earlier entry can still be committed. List reads payloads only if the filter asks for them. It omits a payload that is
	// larger than MaxListedPayload, and the payloads after the first MaxListedBytes.
	List(ctx context.Context, filter EventFilter) ([]ListedEvent, error)
}

// RelayRepair repairs a halted relay.
type RelayRepair interface {
	// Cursor returns the relay's cursor, or the zero Cursor if there is none.
	Cursor(ctx context.Context) (relay.Cursor, error)
	// HasEvents returns the given events that the log holds at their positions, in order of position.
	HasEvents(ctx context.Context, events []outbox.Progress) ([]outbox.Progress, error)
	// At returns the event at position, or false if the log has none.
	At(ctx context.Context, position outbox.Position) (outbox.Progress, bool, error)
	// CountAfter counts the entries after position that are not parked.
	CountAfter(ctx context.Context, position outbox.Position) (int64, error)
	// CheckSequence reports whether the log's sequence went back, and how many events are misplaced because of it.
	CheckSequence(ctx context.Context) (SequenceCheck, error)
	// Realign gives misplaced events new positions at the end of the log, all at once, and returns how many it moved. It waits until no
	// transaction writes the log, and raises the sequence above the log, the parking lot and the cursor. An event keeps its id, content
	// and time; the events of an aggregate keep their order. If the writers do not end in time, Realign fails with fault.Unavailable
	// and changes nothing.
	Realign(ctx context.Context, r Realignment) (int64, error)
	// Adopt sets the cursor's position, stream identity and sequence, and ends the halt. If the cursor is not at revision any more, Adopt
	// fails with relay.ErrStaleRevision. newStream says that the stream holds nothing that the relay published before. Then retention begins
	// again to count the age of the entries.
	Adopt(ctx context.Context, revision int64, cursor relay.Cursor, newStream bool) error
}

// SequenceCheck is the damage to the log if the Postgres sequence that assigns positions went back.
type SequenceCheck struct {
	Misplaced       int64           // events that appeared at positions which the relay had passed already: the relay never publishes them
	NextPosition    outbox.Position // the position that the sequence assigns next; 0: not known
	HighestPosition outbox.Position // highest position in the cursor, the log and the parking lot
}

// WentBack reports whether the sequence will give out positions that it gave out before.
func (c SequenceCheck) WentBack() bool {
	return c.NextPosition > 0 && c.NextPosition <= c.HighestPosition
}

// NeedsRepair reports whether events are misplaced or the sequence is behind.
func (c SequenceCheck) NeedsRepair() bool { return c.Misplaced > 0 || c.WentBack() }

// Realignment chooses the events that get new positions. These are the misplaced events (see SequenceCheck). If an aggregate has a
// misplaced event, every event of the aggregate after Position moves too, so that its versions stay in order. Parked events do not move.
type Realignment struct {
	Position  outbox.Position // the relay goes on after this position
	Published []string        // ids of events that the stream holds: they are not misplaced
	// Complete says that Published names every event that the stream holds after the cursor's last message. Then every other event
	// between the cursor and Position is misplaced too.
	Complete bool
}

// RelayStatus is the state of the log and the relay. The relay saves its cursor at most once a second, so an event that it published after
// the last save still counts as unpublished. Times are the database's.
type RelayStatus struct {
	Relay  string // name of the relay, its lease and its cursor
	Now    time.Time
	Leader *Leader       // nil: nobody leads
	Halt   *RecordedHalt // nil: the relay is not halted

	// HaltedInstances are the instances that do not try to lead, because each of them sees a reason to halt. They are sorted by name. If
	// another instance leads, a halted instance probably has a wrong setting.
	HaltedInstances []InstanceHalt

	Position     outbox.Position // the relay has dealt with every event up to here
	SavedAt      time.Time       // when the relay saved Position; zero: never
	Stream       string
	Sequence     uint64          // sequence of the relay's last message at SavedAt, in Stream
	LastPosition outbox.Position // position of the last committed entry
	PurgedTo     outbox.Position

	SequenceCheck           // may need a repair that no relay has noticed yet
	Unpublished   int64     // how many committed entries after Position are not parked
	Oldest        time.Time // when the first unpublished entry was recorded; zero: there is none

	// OldestTransaction is the open transaction that has written the log for the longest time. Later events wait for its end. Nil: there is
	// none.
	OldestTransaction *OpenTransaction

	ParkedEvents     int64 // events that wait in the parking lot
	ParkedAggregates int64
}

// RelayMetrics is how far the relay is behind. It contains only numbers that are cheap to measure.
type RelayMetrics struct {
	HasLeader         bool
	Backlog           int64         // positions after the last one that was dealt with, up to the last committed one; gaps count too
	Oldest            time.Duration // age of the first event in the backlog that is not parked
	Retained          int64         // positions that retention has not removed; gaps count too
	OldestTransaction time.Duration // age of the oldest open transaction that has written the log, if the database shows it

	// Parked events that wait, and their aggregates. At most MaxCountedParked events are counted.
	ParkedEvents     int64
	ParkedAggregates int64
}

// MaxCountedParked is how many parked events Measure counts at most.
const MaxCountedParked = 10_000

// Leader is the instance that holds the lease, and its term.
type Leader struct {
	Holder string
	Token  int64
	Since  time.Time
	Until  time.Time // when the lease ends unless the leader renews it
}

// RecordedHalt is why the relay publishes nothing.
type RecordedHalt struct {
	relay.Halt
	Since time.Time
}

// InstanceHalt is why one instance does not try to lead.
type InstanceHalt struct {
	Instance string
	RecordedHalt
}

// OpenTransaction is a transaction that has written the log and has not ended.
type OpenTransaction struct {
	Session     int    // the database's number of the session; 0: the transaction is prepared
	Prepared    string // name of a prepared transaction
	Application string
	State       string
	Query       string    // the last statement, shortened
	Since       time.Time // zero: the database does not show it
}

// EventFilter chooses entries of the log. A field with its zero value, except Limit, excludes no entry. Before excludes the entries at this
// position and later.
type EventFilter struct {
	Position  outbox.Position
	Aggregate outbox.Key
	Type      string
	Since     time.Time // only entries recorded at this time or later
	State     string    // one of EventStates
	Before    outbox.Position
	Limit     int
	Payloads  bool // whether payloads are read too
}

// Limits on the bytes of payloads in a list.
const (
	MaxListedPayload = 1 << 20 // of one entry
	MaxListedBytes   = 16 << 20
)

// The states of a listed event that is not in the parking lot.
const (
	Unpublished = "unpublished"
	Published   = "published"
	Misplaced   = "misplaced" // the event appeared after the relay had passed its position; see SequenceCheck
)

// EventStates returns the states of a listed event, in the order in which an event can reach them.
func EventStates() []string {
	return []string{
		Unpublished, Published, Misplaced, string(relay.Parked), string(relay.Redrive), string(relay.Redriven), string(relay.Discarded),
	}
}

// ListedEvent is an entry of the log and its state.
type ListedEvent struct {
	outbox.Entry
	State    string // one of EventStates
	Reason   string // why the event is, or was, parked; empty: it was never parked
	Sequence uint64 // sequence at which the event was redriven; 0: it was not redriven
	Omitted  string // why the payload is missing although the filter asks for payloads; empty: it is not missing
}
