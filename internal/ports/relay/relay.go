// Package outbox is what the engine needs from the outside: a log to append to and read from, a stream to append to, a
// lease, a cursor and a bell. Adapters are dumb: they do one thing once and classify what went wrong, with the faults
// below or with a fault.Kind. None of them retries; every retry is decided in internal/app/relaying.
//
// Package relaytest holds the executable contract of each interface.
package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The answers that the engine acts upon. Anything else is a failure of the call: nothing is known about its effect.
var (
	// ErrTailMoved : nothing was stored by this append (or not all of it), because the stream does not end where the
	// caller believed. Somebody else appended, or an answer was lost.
	ErrTailMoved = fault.New(fault.Conflict, "tail_moved", "the stream does not end where it was expected to")
	// ErrStreamMissing : the broker says, positively, that there is no such stream. A broker that does not answer never
	// gives this.
	ErrStreamMissing = fault.New(fault.NotFound, "stream_missing", "the stream does not exist")
	// ErrStreamUnfit reports that the stream, or the broker, is not as the engine needs it, so that an append could be stored in
	// part, unseen, or where no subscriber looks. Its text says what to do. Publishing nothing is the only safe thing.
	ErrStreamUnfit = fault.New(fault.Conflict, "stream_unfit", "the stream is not as publishing needs it")
	// ErrNoMessage : the stream has no message at that sequence: never stored, deleted, or expired.
	ErrNoMessage = fault.New(fault.NotFound, "message_missing", "the stream has no message at that sequence")
	// ErrHistoryLost : the log does not hold what was dealt with; see Log.
	ErrHistoryLost = fault.New(fault.Conflict, "history_lost", "the log does not hold the event that was published last")
	// ErrSequenceBehind reports that the sequence that deals positions went back. New events are refused, or come where the relay does
	// not look any more.
	ErrSequenceBehind = fault.New(fault.Unavailable, "sequence_behind", "the outbox deals positions that it has dealt before")
	// ErrLeaseHeld : another holder has the lease.
	ErrLeaseHeld = fault.New(fault.Conflict, "lease_held", "the lease is held by another instance")
	// ErrLeaseLost : the token is not the lease's any more, so nothing was written.
	ErrLeaseLost = fault.New(fault.Conflict, "lease_lost", "the lease was lost to another instance")
	// ErrOutOfTurn : another write took effect first, so nothing was written. The caller has to load the cursor again.
	ErrOutOfTurn = fault.New(fault.Conflict, "out_of_turn", "another write to the relay's state came first")
	// ErrNotParked : there is no event at that position, or of that aggregate, that waits for an operator.
	ErrNotParked = fault.New(fault.NotFound, "not_parked", "no such event is parked")
)

// ErrVersionTaken : the aggregate already has an event of that version.
var ErrVersionTaken = fault.New(fault.Conflict, "version_taken", "the aggregate already has an event of that version")

// RefusedError says that the broker can never take an entry, however often it is tried: it is too large, its subject
// is not the stream's, or no subscriber could read it.
type RefusedError struct {
	Entry  outbox.Entry
	Reason string
}

// Error names the event and the reason.
func (e *RefusedError) Error() string {
	return "event " + e.Entry.ID + " of " + e.Entry.Key.String() + " can never be published: " + e.Reason
}

// LeaseHeldError reports who holds the lease. It is an ErrLeaseHeld.
type LeaseHeldError struct {
	Holder string
	Token  int64 // of the holder's term; 0: it was taken for the first time at this moment, so the token is not known yet
}

// Error names the holder.
func (e *LeaseHeldError) Error() string { return "the lease is held by " + e.Holder }

// Unwrap returns ErrLeaseHeld.
func (e *LeaseHeldError) Unwrap() error { return ErrLeaseHeld }

// Appender appends to the log, inside the transaction that changes the aggregate.
type Appender interface {
	// Append records the messages in the given order, or none of them. The caller has locked the aggregate (by saving
	// it) first, so that positions ascend with versions. Invalid messages are refused with outbox.ErrInvalidMessage, a
	// version that has an event already with ErrVersionTaken.
	Append(ctx context.Context, messages ...outbox.Message) error
}

// Log is the log as the relay reads it.
type Log interface {
	// After returns the entries that follow from, in order of position: at most limit.Count of them and about limit.Bytes
	// of payload and headers, but at least one if there is any. It returns only entries which no open transaction can still precede;
	// where one can, it waits for that transaction's end (commit, rollback or loss of its connection) or for ctx.
	// None left is an empty slice without an error.
	//
	// The row at from.Position must carry from.EventID, else the answer is ErrHistoryLost; it may be missing only at
	// position 0 and at or below the cursor's PurgedTo.
	//
	// Entries that are in the parking lot are among them, marked Parked; that they were not may have become untrue since.
	// So are rows that can never be published, with the reason in Entry.Invalid. One such row must not keep the others back.
	// A payload larger than limit.Largest, and headers or texts that no broker takes, are such a reason, which tells the size:
	// the caller does not get them, and they never come into its memory.
	//
	// A log that is not safe to read (a standby, for example) is a failure, never an empty answer.
	After(ctx context.Context, from outbox.Progress, limit outbox.Slice) (Page, error)

	// Verify checks that the log still grows after reached alone, up to which the relay has dealt with it; sequence is where the
	// stream holds the last event up to there. It changes nothing. The answer is ErrSequenceBehind
	//   - if a position is dealt next that is not above reached, and above everything in the log and the parking lot;
	//   - if an event came after the relay: at or below the saved cursor, and below PurgedTo or recorded after RecordedTo; or
	//     between the cursor and reached, where there are more events than the stream has messages. Those that are in the
	//     parking lot do not count.
	// An event that came while the sequence went back and forth may be found only within half a minute.
	// If the row at reached is another one or is missing, as After judges it, the answer is ErrHistoryLost.
	Verify(ctx context.Context, reached outbox.Progress, sequence uint64) error
}

// Page is what follows a position of the log.
type Page struct {
	Entries []outbox.Entry
	// More may follow at once: the limit ended the page, or something that was seen could not be returned yet. If it is
	// false, whatever follows was committed after it was read.
	More bool
}

// StreamInfo is where a stream stands.
type StreamInfo struct {
	Created       string // identity: opaque, differs for a stream that was deleted and made anew
	FirstSequence uint64 // before it there is no message any more
	LastSequence  uint64 // of the last message ever stored, deleted or not; 0: none
	Base          uint64 // the sequence before the first one that the stream ever had: 0, unless it was created with another
	Messages      uint64 // that the stream holds
	Session       uint64 // of the connection that was asked; differs once that was lost, and the stream may be an older one
	Largest       int    // size in bytes of the largest message that the broker takes
	Unreadable    bool   // subscribers cannot read the stream as it is set; Open changes that
}

// Stamp is what the engine wrote on a message of the stream.
type Stamp struct {
	Ours     bool            // false: somebody else's message, the rest is empty
	Progress outbox.Progress // the last row of the log that was dealt with once this message was stored
	Event    outbox.Position // of the event that the message carries; 0: it is a Notice
	Redriven bool            // the event came later than its place in the log
	Parked   string          // of a Notice
	Confirms bool            // of a Notice
	Kept     uint64          // of a Notice
}

// Adopted reports whether an operator's notice says that the log goes on after Progress.
func (s Stamp) Adopted() bool { return s.Ours && s.Event == 0 && s.Parked == "" && !s.Confirms }

// Held is up to which sequence the stream may hold what was redriven, if this is stamped on its last message of ours, at
// sequence, or if there is none up to there.
func (s Stamp) Held(sequence uint64) uint64 {
	switch {
	case !s.Ours || s.Redriven:
		return sequence
	case s.Event == 0:
		return min(s.Kept, sequence-1)
	}
	return sequence - 1
}

// Publisher appends to the stream. Sequences are contiguous: the message after S is S+1.
//
// One Publisher is used by one relay at a time: its methods are not called concurrently, except after a call's context
// has ended.
type Publisher interface {
	// Open reports where the stream stands, after bringing its configuration up to date without ever shrinking it. If
	// there is no stream, Open creates it, and first is the sequence of its first message. If first is 0, Open creates
	// nothing and returns ErrStreamMissing. Open reads the stream back after a change. If the stream cannot be made fit, Open
	// returns ErrStreamUnfit, together with where the stream stands.
	Open(ctx context.Context, first uint64) (StreamInfo, error)

	// Look reports where the stream stands, and changes nothing; if there is none, the answer is ErrStreamMissing. What is
	// judged by the stream's configuration is judged by what was seen last. If the stream is unfit in a way that Open would not
	// repair, Look returns ErrStreamUnfit, together with where the stream stands.
	Look(ctx context.Context) (StreamInfo, error)

	// At reads what is stamped on the message at sequence, or answers ErrNoMessage.
	At(ctx context.Context, sequence uint64) (Stamp, error)

	// Publish appends batch, in order, directly after the message at sequence after, and returns the sequence of the last
	// message it knows to be stored: after+len(batch) exactly when the error is nil.
	//
	// An entry that can never be stored ends the batch: what stands before it is stored, and the error is a *RefusedError.
	// So does an entry that no subscriber could read (Entry.Unpublishable).
	// ErrTailMoved says that the stream did not end at after. On any other error anything between nothing and the whole
	// batch may be stored, now or shortly: the caller has to look at the stream again.
	//
	// The message of each entry says that the log was dealt with up to that entry. When the connection was lost since Open,
	// the answer is ErrTailMoved: a stream that has come back may be an older one.
	Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error)

	// Redrive is Publish for events that come later than their place in the log: each message says that the log was dealt
	// with up to at.
	Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error)

	// Notify appends a notice as Publish appends an event. Of a long reason it keeps the beginning.
	Notify(ctx context.Context, after uint64, notice outbox.Notice) (uint64, error)
}

// StreamRepair is the stream as an operator repairs it.
type StreamRepair interface {
	Publisher

	// Raise gives the next message of an empty stream the sequence first. It never lowers sequences. A stream that holds
	// messages stays as it is, and the answer is ErrTailMoved.
	Raise(ctx context.Context, first uint64) (StreamInfo, error)
}

// Finder looks for events in the stream. It is safe for concurrent use.
type Finder interface {
	// Find returns when the stream stored the event, or answers ErrNoMessage if it does not hold it. It looks at sequence, if
	// that is not 0, and else where the event stands by its position: one that came later than its place in the log is found
	// by its sequence only.
	Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error)
}

// CursorStore keeps the relay's cursor, and tells operators why the relay halted.
type CursorStore interface {
	// Load returns the cursor, the zero Cursor when nothing was ever written.
	Load(ctx context.Context) (outbox.Cursor, error)
	// Save writes position, stream identity and sequence, and RecordedTo, if it is the turn's: else the answer is ErrLeaseLost
	// or ErrOutOfTurn, and nothing is written. It returns the cursor as it stands, with PurgedTo and Halt, which it does not
	// change. A RecordedTo that is zero is found in the log; if that would take too long, it stays unknown.
	//
	// If the log does not grow after cursor alone (see Log.Verify; of the events before the saved cursor those count that the
	// new RecordedTo would hide), the answer is ErrSequenceBehind, and nothing is written.
	Save(ctx context.Context, turn outbox.Turn, cursor outbox.Cursor) (outbox.Cursor, error)
	// Report writes why the relay halted, or with nil that it did not, fenced like Save.
	Report(ctx context.Context, turn outbox.Turn, halt *outbox.Halt) error
}

// InstanceHalts keeps, for operators, which instances are halted. What it keeps decides nothing: each instance reports for
// itself, and may do so while another one leads.
type InstanceHalts interface {
	// Record keeps why the caller's instance is halted, or with nil that it is not. A report that is not repeated within
	// HaltReportExpires is forgotten.
	Record(ctx context.Context, halt *outbox.Halt) error
}

// HaltReportExpires is how long a report of a halt counts, so that the report of a dead instance goes away.
const HaltReportExpires = time.Minute

// Settled is how the parking lot stands once it was brought in line with the stream.
type Settled struct {
	Waiting bool // some event waits
	Lost    bool // some event was redriven that the stream does not hold any more
}

// Parking is the parking lot as the relay drives it: a sequenced dead-letter queue. An event that the broker can never take
// waits there, and behind it, in order, every later event of its aggregate. Each method but Due is one write, fenced like
// CursorStore.Save and judged on what the lot holds when it takes effect.
type Parking interface {
	// Settle brings the lot in line with the stream, in which the last message of ours is tail, at sequence:
	//   - a notice of parking at the tail: its event is parked, if the log still has it and the lot does not;
	//   - an event at the tail that is to be redriven: so it was, and so were those of its aggregate before it that were
	//     to be redriven, at the sequences before it;
	//   - events that were redriven above what the stream holds of them (Stamp.Held): the stream lost them. If end says that
	//     the stream is known to end at sequence, they are to be redriven again; else they stay as they are.
	// A zero tail has nothing to say.
	Settle(ctx context.Context, turn outbox.Turn, tail Stamp, sequence uint64, end bool) (Settled, error)

	// SetAside parks those of entries, which are in order of position, whose aggregate has an event that waits at an
	// earlier position, and returns the positions of those that are in the lot now. If all that waits of the aggregate is to
	// be redriven already, they are to be redriven too.
	SetAside(ctx context.Context, turn outbox.Turn, entries []outbox.Entry) ([]outbox.Position, error)

	// Due reads what is to be redriven next: events of one aggregate, in order, at most limit and at positions up to upTo,
	// without one that is still parked before them. What is too large is treated as in Log.After. It reports whether any event
	// waits.
	Due(ctx context.Context, upTo outbox.Position, limit outbox.Slice) (due []outbox.Entry, waiting bool, err error)

	// Refuse parks an event again which was to be redriven and that the broker still cannot take, and with it the later
	// ones of its aggregate that were to be redriven.
	Refuse(ctx context.Context, turn outbox.Turn, entry outbox.Entry, reason string) error
}

// Attendant is the parking lot as an operator sees it. What is to be redriven is redriven by the leader, soon.
type Attendant interface {
	// Redrive asks for every Parked event of the aggregate, or of all aggregates when key is nil, and returns how many
	// there were. If there was none of the aggregate the answer is ErrNotParked.
	Redrive(ctx context.Context, key *outbox.Key) (int, error)
	// Discard gives up the Parked event at position for ever, or answers ErrNotParked. The events behind it wait on. It also
	// takes one that is to be redriven and never can be, because somebody deleted it from the log.
	Discard(ctx context.Context, position outbox.Position) error
	// Waiting lists at most limit of the events that wait, in order of position.
	Waiting(ctx context.Context, limit int) ([]outbox.ParkedEvent, error)
	// Undecided returns the first Parked event of each aggregate after a key, in an order of keys of its own, at most limit. The other
	// Parked events of the aggregate are behind it.
	Undecided(ctx context.Context, after outbox.Key, limit int) ([]outbox.Undecided, error)
	// RedriveChosen asks for those of the events that are Parked and of the choice, and for the Parked events behind each in its
	// aggregate, all at once. It returns how many of the events it chose.
	RedriveChosen(ctx context.Context, positions []outbox.Position, choice outbox.Choice) (int, error)
	// DiscardChosen gives those of the events up that are Parked and of the choice, all at once. It returns how many these are.
	DiscardChosen(ctx context.Context, positions []outbox.Position, choice outbox.Choice) (int, error)
}

// Retention removes from the log what was published long ago.
type Retention interface {
	// Purge removes at most limit entries, those at the lowest positions first, that the cursor passed at least age ago, and
	// sets the cursor's PurgedTo to match, all at once; they go within twice the age if Purge is called often enough. The
	// age counts from when the stream held them, not from when they were recorded, so that a stream which lost what it was
	// given within that time can be healed. Events in the parking lot stay while they wait; after that they age from when
	// they were dealt with, and leave the lot together with the log. Purge returns how many entries were removed. If token
	// is not the lease's any more, the answer is ErrLeaseLost and nothing is removed.
	Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error)
}

// Elector hands out the lease that decides which relay tries. The keeper's clock decides expiry; the deadline of a Term
// is on the caller's monotonic clock, counted from before the request, and ends before the lease does.
type Elector interface {
	// Acquire takes the lease if it is free, has expired, or is held under the token gone, with a new and higher token; else
	// the answer is a *LeaseHeldError. The caller believes that the holder of the token gone cannot publish any more; 0 is
	// nobody's token.
	Acquire(ctx context.Context, gone int64) (outbox.Term, error)
	// Renew extends the term, or answers ErrLeaseLost. An expired lease that nobody took is still the caller's.
	Renew(ctx context.Context, term outbox.Term) (outbox.Term, error)
	// Resign frees the lease at once. A lease that is not the caller's any more is left alone, without an error.
	Resign(ctx context.Context, term outbox.Term) error
}

// Waker rings every instance's relay: the log has grown, or the lease is free. It is best effort, coalesces, never blocks
// and never fails; polling is the safety net.
type Waker interface {
	Wake()
}

// Alarm is the other end of Waker.
type Alarm interface {
	// C receives after a ring since the last receive. It is buffered by one and never closed.
	C() <-chan struct{}
}
