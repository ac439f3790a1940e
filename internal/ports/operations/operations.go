// Package operating is what people who run the relay need from its database: to see where it stands, and to repair it.
// Nothing here is fenced by a lease; whatever is decided takes effect through the relay, and cannot mislead it.
package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// RelayInspector is the relay's state in the database.
type RelayInspector interface {
	EventLog
	// Status tells where log and relay stand. It reads little, whatever the size of the log, but for the backlog, which it
	// counts.
	Status(ctx context.Context) (RelayStatus, error)
	// Measure tells how far the relay is behind, at a cost that does not grow with the backlog. Everything up to known is
	// taken as dealt with, even if the cursor was not saved there yet; 0: nothing is known.
	Measure(ctx context.Context, known outbox.Position) (RelayMetrics, error)
}

// EventLog is the log for people to look at.
type EventLog interface {
	// List returns the newest of the log's committed entries that match, at most filter.Limit, the newest first. They may
	// include some that the relay does not publish yet, because an earlier one can still come. Payloads are read only if the
	// filter asks for them, and a payload larger than LargestListed is not read, nor one that comes after AllListed bytes.
	List(ctx context.Context, filter EventFilter) ([]ListedEvent, error)
}

// RelayRepair is where a halted relay is repaired.
type RelayRepair interface {
	// Cursor is the relay's cursor, the zero Cursor when there is none.
	Cursor(ctx context.Context) (relay.Cursor, error)
	// Held returns those of places at which the log holds that event, in order of position.
	HasEvents(ctx context.Context, places []outbox.Progress) ([]outbox.Progress, error)
	// At returns the event at position, false if the log has none.
	At(ctx context.Context, position outbox.Position) (outbox.Progress, bool, error)
	// Behind counts the entries after position that are not in the parking lot.
	Behind(ctx context.Context, position outbox.Position) (int64, error)
	// Disorder tells what of the log came where the relay does not look any more.
	CheckSequence(ctx context.Context) (SequenceCheck, error)
	// Realign makes the log grow after everything again: no writer is under way meanwhile, the sequence is set above the log,
	// the parking lot and the cursor, and what r chooses gets new positions there, all at once. It returns how many events
	// were moved. Each keeps its id, content and time; of an aggregate they keep their order. If writers do not let go of the
	// log in time, the answer is fault.Unavailable, and nothing was changed.
	Realign(ctx context.Context, r Realignment) (int64, error)
	// Adopt sets the cursor's position, stream identity and sequence, and ends the halt, if nothing was written since
	// revision; else the answer is relay.ErrOutOfTurn. anew says that the stream holds nothing of ours from before, so that
	// nobody knows since when it has what it is given: retention begins anew.
	Adopt(ctx context.Context, revision int64, cursor relay.Cursor, anew bool) error
}

// Disorder is what of the log came where the relay does not look any more, because the sequence that deals positions went back.
type SequenceCheck struct {
	Misplaced int64           // events that the relay has not seen and will not see: they came at positions that it had passed
	Next      outbox.Position // is dealt next; 0: not known
	Highest   outbox.Position // of the cursor, the log and the parking lot
}

// Behind reports whether positions are dealt again.
func (d SequenceCheck) Behind() bool { return d.Next > 0 && d.Next <= d.Highest }

// Any reports whether there is anything to repair.
func (d SequenceCheck) NeedsRepair() bool { return d.Misplaced > 0 || d.Behind() }

// Realignment chooses events that get new positions: the misplaced ones (see Disorder), and every event after Place of an
// aggregate that has a misplaced one, so that its versions stay in order. What is in the parking lot stays.
type Realignment struct {
	Position     outbox.Position // after it the relay goes on
	Published []string        // ids of events that the stream holds: they are not misplaced
	// Whole says that Published names all that the stream holds after the cursor's last message: what else the log has between
	// the cursor and Place is misplaced too.
	Complete bool
}

// Status is where log and relay stand. The relay saves its position at most once a second, so what it published since then
// still counts as unpublished. Times are the database's.
type RelayStatus struct {
	Relay  string // name of the relay, of its lease and of its cursor
	Now    time.Time
	Leader *Leader // nil: nobody leads at the moment
	Halt   *Halt   // nil: the relay is not halted

	// HaltedInstances are those that do not try to lead, because of what they see, in order of their names. While another
	// instance leads, each of them probably has a wrong setting.
	HaltedInstances []InstanceHalt

	Position outbox.Position // everything up to here was dealt with
	SavedAt    time.Time       // when the relay said so; zero: never
	Stream   string
	Sequence uint64          // of the last message of ours then
	LastPosition     outbox.Position // in the log, committed
	PurgedTo outbox.Position

	SequenceCheck              // if there is any, nobody may have noticed it yet
	Unpublished int64     // committed entries after Position which are not in the parking lot
	Oldest      time.Time // when the first of them was recorded; zero if there is none

	OldestTransaction *OpenTransaction // the open transaction that has been writing the log for the longest time, which holds back what came after it

	ParkedEvents     int64 // that wait
	ParkedAggregates int64
}

// Measures is how far the relay is behind, as cheaply as that can be said.
type RelayMetrics struct {
	HasLeader     bool          // somebody leads
	Backlog int64         // positions after the last one dealt with, up to the last committed one; those rolled back count
	Oldest  time.Duration // since the first of these that is not parked was recorded
	Retained    int64         // positions that retention has not removed; those rolled back count
	OldestTransaction  time.Duration // age of the oldest open transaction that has written the log, as far as it may be told

	// What waits in the parking lot. No more than CountedAtMost are counted.
	ParkedEvents     int64
	ParkedAggregates int64
}

// CountedAtMost is how many parked events Measure looks at.
const MaxCountedParked = 10_000

// Lag is how far one subscriber is behind.
type Lag struct {
	Subscriber string
	Events     int64         // in the stream that it has not dealt with
	Oldest     time.Duration // since the first of them was stored
}

// SubscriberPlaces tells how far subscribers have come, as far as they keep their checkpoints in this database.
type ProgressReader interface {
	// Places returns the place of the slowest lane of each subscriber, in order of the names. It reads a row for each lane.
	Progress(ctx context.Context) ([]SubscriberProgress, error)
}

// SubscriberPlace is how far a subscriber has come.
type SubscriberProgress struct {
	Subscriber string
	Stream     string // identity of the stream that Sequence is in: when it was created
	Sequence   uint64 // every event up to here was dealt with, of all lanes that are in this stream
	Lanes      int
}

// StreamLags measures subscribers against the stream.
type StreamLags interface {
	// Behind returns the lag of each subscriber that stands at a place. It returns nothing when there is no stream.
	Behind(ctx context.Context, places []SubscriberProgress) ([]Lag, error)
	// Lags returns the lag of each subscriber for which the broker keeps a place, as programs of before had it.
	Lags(ctx context.Context) ([]Lag, error)
}

// Leader is who holds the lease.
type Leader struct {
	Holder string
	Token  int64
	Since  time.Time
	Until  time.Time // unless it is renewed
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

// Writer is a transaction that has written the log and not ended.
type OpenTransaction struct {
	PID         int    // 0: a prepared transaction
	GID         string // of a prepared transaction
	Application string
	State       string
	Query       string    // its last statement, shortened
	Since       time.Time // zero: it may not be told
}

// Filter chooses entries of the log. Each zero value, but that of Limit, chooses all.
type EventFilter struct {
	Position  outbox.Position
	Aggregate outbox.Key
	Type      string    // of the event
	Since     time.Time // it was recorded then or later
	Limit     int
	Payloads  bool // read them, too
}

// How many bytes of payloads are listed: of one entry, and of a list.
const (
	MaxListedPayload = 1 << 20
	MaxListedBytes     = 16 << 20
)

// Where an entry stands.
const (
	Unpublished = "unpublished"
	Published   = "published"
	Misplaced   = "misplaced" // it came where the relay does not look any more; see Disorder
)

// Listed is an entry of the log and where it stands: Unpublished, Published, Misplaced, or its state in the parking lot.
type ListedEvent struct {
	outbox.Entry
	State    string
	Reason   string // why it is, or was, in the parking lot; empty: it never was
	Sequence uint64 // in the stream, of what was redriven; else 0
	Omitted  string // why the payload is not there although the filter asks for it; empty: it is there
}
