// Package operations holds the ports for people who run the relay and its subscribers: to see where they stand, and to decide about
// them. The HTTP admin listener and the commands of cmd/outboxie drive SubscriberAdmin, DeadLetterFinder and UndecidedEvents, which
// package operating in internal/app implements; the database implements the other ports.
//
// No lease fences these writes. A decision takes effect through the relay or the subscriber, and cannot mislead either.
package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// RelayInspector reads the relay's state from the database.
type RelayInspector interface {
	EventLog
	// Status returns where log and relay stand. It counts the backlog; otherwise it reads little, whatever the size of the log.
	Status(ctx context.Context) (RelayStatus, error)
	// Measure returns how far the relay is behind. Its cost does not grow with the backlog. The cursor in the database may be older
	// than the relay's own, so everything up to known counts as dealt with too; 0 means that nothing is known.
	Measure(ctx context.Context, known outbox.Position) (RelayMetrics, error)
}

// EventLog shows the log to people.
type EventLog interface {
	// List returns the newest committed entries that match, at most filter.Limit, the newest first. Some may not be published yet,
	// because an earlier one can still be committed. List reads payloads only if the filter asks for them. It omits a payload that is
	// larger than MaxListedPayload, and those after the first MaxListedBytes.
	List(ctx context.Context, filter EventFilter) ([]ListedEvent, error)
}

// RelayRepair repairs a halted relay.
type RelayRepair interface {
	// Cursor returns the relay's cursor, or the zero Cursor if there is none.
	Cursor(ctx context.Context) (relay.Cursor, error)
	// HasEvents returns those of the given events that the log holds at their position, in order of position.
	HasEvents(ctx context.Context, events []outbox.Progress) ([]outbox.Progress, error)
	// At returns the event at position, or false if the log has none.
	At(ctx context.Context, position outbox.Position) (outbox.Progress, bool, error)
	// Behind counts the entries after position that are not parked.
	Behind(ctx context.Context, position outbox.Position) (int64, error)
	// CheckSequence reports whether the log's sequence went back, and how many events are misplaced because of it.
	CheckSequence(ctx context.Context) (SequenceCheck, error)
	// Realign gives misplaced events new positions at the end of the log, all at once, and returns how many it moved. It waits until no
	// transaction writes the log, and raises the sequence above the log, the parking lot and the cursor. An event keeps its id, content
	// and time; the events of an aggregate keep their order. If the writers do not end in time, Realign fails with fault.Unavailable
	// and changes nothing.
	Realign(ctx context.Context, r Realignment) (int64, error)
	// Adopt sets the cursor's position, stream identity and sequence, and ends the halt. If the cursor is not at revision any more, it
	// fails with relay.ErrStaleRevision. newStream says that the stream holds nothing that the relay published before: the time that retention
	// counts from begins again.
	Adopt(ctx context.Context, revision int64, cursor relay.Cursor, newStream bool) error
}

// SequenceCheck is what became of the log because the sequence that deals its positions went back.
type SequenceCheck struct {
	Misplaced int64           // events at positions that the relay had passed before they came: it never publishes them
	Next      outbox.Position // dealt next; 0: not known
	Highest   outbox.Position // of the cursor, the log and the parking lot
}

// Behind reports whether the sequence deals positions again.
func (c SequenceCheck) Behind() bool { return c.Next > 0 && c.Next <= c.Highest }

// NeedsRepair reports whether there is anything to repair.
func (c SequenceCheck) NeedsRepair() bool { return c.Misplaced > 0 || c.Behind() }

// Realignment chooses the events that get new positions: the misplaced ones (see SequenceCheck), and of an aggregate that has a
// misplaced one every event after Position, so that its versions stay in order. Parked events stay where they are.
type Realignment struct {
	Position  outbox.Position // the relay goes on after it
	Published []string        // ids of events that the stream holds: they are not misplaced
	// Complete says that Published names every event that the stream holds after the cursor's last message. Then every other event
	// between the cursor and Position is misplaced too.
	Complete bool
}

// RelayStatus is where log and relay stand. The relay saves its cursor at most once a second, so an event that it published since
// then still counts as unpublished. Times are the database's.
type RelayStatus struct {
	Relay  string // name of the relay, its lease and its cursor
	Now    time.Time
	Leader *Leader // nil: nobody leads
	Halt   *Halt   // nil: the relay is not halted

	// HaltedInstances do not try to lead, because of what they see. They are in order of their names. If another instance leads, each
	// of them probably has a wrong setting.
	HaltedInstances []InstanceHalt

	Position     outbox.Position // every event up to here was dealt with
	SavedAt      time.Time       // when the relay saved Position; zero: never
	Stream       string
	Sequence     uint64          // of the relay's last message at that time
	LastPosition outbox.Position // of the last committed entry
	PurgedTo     outbox.Position

	SequenceCheck           // it may need a repair that no relay has noticed yet
	Unpublished   int64     // committed entries after Position that are not parked
	Oldest        time.Time // when the first of them was recorded; zero if there is none

	// OldestTransaction has been writing the log for the longest time. Later events wait for it. Nil: there is none.
	OldestTransaction *OpenTransaction

	ParkedEvents     int64 // that wait
	ParkedAggregates int64
}

// RelayMetrics is how far the relay is behind, as far as it can be measured cheaply.
type RelayMetrics struct {
	HasLeader         bool
	Backlog           int64         // positions after the last one dealt with, up to the last committed one, rolled-back ones included
	Oldest            time.Duration // age of the first of these events that is not parked
	Retained          int64         // positions that retention has not removed, rolled-back ones included
	OldestTransaction time.Duration // age of the oldest open transaction that has written the log, if the database shows it

	// Parked events that wait, and their aggregates. At most MaxCountedParked events are counted.
	ParkedEvents     int64
	ParkedAggregates int64
}

// MaxCountedParked is how many parked events Measure counts at most.
const MaxCountedParked = 10_000

// Leader holds the lease.
type Leader struct {
	Holder string
	Token  int64
	Since  time.Time
	Until  time.Time // unless the leader renews the lease
}

// Halt is why the relay publishes nothing.
type Halt struct {
	relay.Halt
	Since time.Time
}

// InstanceHalt is why one instance does not try to lead.
type InstanceHalt struct {
	Instance string
	Halt
}

// OpenTransaction is a transaction that has written the log and has not ended.
type OpenTransaction struct {
	Session     int    // the database's number of its session; 0 if it is prepared
	Prepared    string // name of a prepared transaction
	Application string
	State       string
	Query       string    // its last statement, shortened
	Since       time.Time // zero: the database does not show it
}

// EventFilter chooses entries of the log. Each zero value but that of Limit chooses all.
type EventFilter struct {
	Position  outbox.Position
	Aggregate outbox.Key
	Type      string
	Since     time.Time // only entries recorded at this time or later
	Limit     int
	Payloads  bool // read payloads too
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
	Misplaced   = "misplaced" // the relay had passed its position before it came; see SequenceCheck
)

// ListedEvent is an entry of the log and its state.
type ListedEvent struct {
	outbox.Entry
	State    string // Unpublished, Published, Misplaced, or its state in the parking lot
	Reason   string // why it is, or was, parked; empty: it never was
	Sequence uint64 // of a redriven event in the stream; else 0
	Omitted  string // why the payload that the filter asks for is not there; empty: it is there
}
