// Package operating lets people repair the relay and operate subscribers. The commands of cmd/outboxie and the HTTP admin listener use
// its Adopter, Subscribers, Undecided and Lags.
package operating

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The refusals of an adoption.
var (
	// ErrNotHalted reports that the relay is not halted, as far as the database knows.
	ErrNotHalted = fault.New(fault.Refused, "not_halted", "the relay is not halted, so there is nothing to repair")
	// ErrStartUnknown reports that a person has to say after which event the relay goes on.
	ErrStartUnknown = fault.New(fault.Refused, "nowhere_to_go_on", "it is not known after which event to go on")
	// ErrNotAdoptable reports that an adoption does not repair this halt. If the caller names a position, a plan can be made anyway.
	ErrNotAdoptable = fault.New(fault.Refused, "stream_unfit",
		"an adoption does not repair this: the relay goes on by itself once the cause is repaired")
	// ErrNoSuchPosition reports that the relay cannot go on after that position.
	ErrNoSuchPosition = fault.New(fault.Invalid, "no_such_position", "the relay cannot go on after that position")
)

// compareBatch is how many messages of the stream are compared with the log at once.
const compareBatch = 1000

// Adoption is a plan to accept the stream and the log as they are now. Adopter.Do carries it out, and writes into the stream after which
// event the relay goes on.
type Adoption struct {
	Halt          relay.Halt
	CreateStream  bool // there is no stream: Do creates it
	OtherStream   bool // the stream is not the one that the relay knew. Redriven events are redriven again
	After         outbox.Progress
	Why           string // why After was chosen
	Events        int64  // number of events of the log after After, which are published next
	FirstSequence uint64 // sequence of the next message in a stream that is created or raised; 0: the stream stays as it is
	// Repeats reports that the stream holds messages, and that its sequences are not above all sequences of the former stream. Do refuses
	// such a plan unless AcceptRepeats is set.
	Repeats       bool
	AcceptRepeats bool
	Incomplete    bool // retention has removed events between the end of the stream and After: the stream never gets them
	Orphans       []Orphan
	// Sequence counts the misplaced events. Do moves them to the end of the log, and the relay publishes them.
	Sequence operations.SequenceCheck
	// StreamUnfit reports that the stream is not fit for publishing. The relay goes on only after the stream is repaired.
	StreamUnfit bool

	published []string // ids of events that the stream is known to hold
	complete  bool     // published has the id of every event after the cursor's last message

	cursor  relay.Cursor
	stream  relay.StreamInfo
	tail    relay.MessageMeta // of the stream's last message; zero if it is gone
	lastOwn uint64            // sequence of the relay's last message that the stream still holds
}

// Version returns a text that changes if the plan changes in a way that a person who has seen it must see again. It does not change because the
// log grows: while the relay is halted, new events go on to be written, so Events, Sequence.Misplaced and the figures in Halt.Detail grow with
// each of them. Such an event is published after all others in any case.
func (p Adoption) Version() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %d %q %q\n", p.Halt.Reason, p.After.Position, p.After.EventID, p.Why)
	fmt.Fprintf(sum, "%t %t %d %t %t %t %t\n", p.CreateStream, p.OtherStream, p.FirstSequence, p.Repeats, p.AcceptRepeats, p.Incomplete, p.StreamUnfit)
	fmt.Fprintf(sum, "%t %t %q %d %d\n", p.Sequence.WentBack(), p.Sequence.Misplaced > 0, p.stream.Created, p.stream.LastSequence, p.lastOwn)
	for _, orphan := range p.Orphans {
		fmt.Fprintf(sum, "%d %d %q\n", orphan.Sequence, orphan.Position, orphan.EventID)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Orphan is an event that the stream holds and the log has lost. Subscribers may have applied it.
type Orphan struct {
	outbox.Progress
	Sequence uint64 // in the stream
}

// Adopter makes and carries out adoptions.
type Adopter struct {
	repair operations.RelayRepair
	stream relay.StreamRepair
}

// NewAdopter returns an adopter. No relay may use the same stream port.
func NewAdopter(repair operations.RelayRepair, publisher relay.StreamRepair) *Adopter {
	return &Adopter{repair: repair, stream: publisher}
}

// Plan returns what an adoption would do. If position is nil, the relay goes on after the last event that both stream and log hold. So the
// relay leaves out no event that still exists. At worst the relay publishes some events again, and subscribers drop them.
func (a *Adopter) Plan(ctx context.Context, position *outbox.Position) (Adoption, error) {
	cursor, err := a.repair.Cursor(ctx)
	if err != nil {
		return Adoption{}, err
	}
	disorder, err := a.repair.CheckSequence(ctx)
	if err != nil {
		return Adoption{}, err
	}
	if cursor.Halt == nil && disorder.NeedsRepair() { // and no relay has noticed
		cursor.Halt = relay.NewHalt(relay.HaltSequenceBehind, "the next position is %d, the highest is %d, and %d events are misplaced",
			disorder.NextPosition, disorder.HighestPosition, disorder.Misplaced)
	}
	if cursor.Halt == nil {
		return Adoption{}, ErrNotHalted
	}
	plan := Adoption{Halt: *cursor.Halt, Sequence: disorder, cursor: cursor}
	plan.stream, err = a.stream.Look(ctx)
	switch {
	case errors.Is(err, relay.ErrStreamMissing):
		plan.CreateStream, err = true, nil
	case errors.Is(err, relay.ErrStreamUnfit) && position != nil:
		plan.StreamUnfit, err = true, nil
	case errors.Is(err, relay.ErrStreamUnfit):
		err = ErrNotAdoptable.Wrap(err)
	}
	if err != nil {
		return Adoption{}, err
	}
	plan.OtherStream = plan.CreateStream || cursor.StreamCreated != "" && cursor.StreamCreated != plan.stream.Created
	plan.chooseFirstSequence()
	if err := a.chooseStart(ctx, &plan, position); err != nil {
		return Adoption{}, err
	}
	plan.Events, err = a.repair.CountAfter(ctx, plan.After.Position)
	return plan, err
}

// chooseStart decides after which event the relay goes on.
func (a *Adopter) chooseStart(ctx context.Context, plan *Adoption, position *outbox.Position) (err error) {
	purgedTo := outbox.Progress{Position: plan.cursor.PurgedTo}
	var found bool
	if found, err = a.compare(ctx, plan); err != nil {
		return err
	}
	if plan.OtherStream {
		plan.lastOwn = 0
	}
	if position != nil {
		plan.Why = "it was asked for"
		plan.After, err = a.progressAt(ctx, *position, purgedTo.Position)
		return err
	}
	lost := plan.stream.LastSequence < plan.cursor.StreamSequence
	switch {
	case found && plan.After.Position >= purgedTo.Position:
		plan.complete = !plan.OtherStream
		plan.Why = "it is the last event that the stream holds and the log knows"
	case found || !plan.OtherStream && (lost || plan.cursor.Position < purgedTo.Position):
		plan.After, plan.Incomplete = purgedTo, true
		plan.Why = "the stream ends before this position, and retention has removed the log up to it"
	case plan.OtherStream:
		plan.After = purgedTo
		plan.Why = "the stream holds no event of the log, so the relay publishes everything that the log still has"
	default:
		plan.Why = "the relay had come so far; the messages themselves are gone from the stream"
		if plan.After, err = a.progressAt(ctx, plan.cursor.Position, purgedTo.Position); err != nil {
			return ErrStartUnknown.With("neither the end of the stream nor position %d, up to which the relay had come, is in the log: "+
				"check that DATABASE_URL names the right database", plan.cursor.Position)
		}
	}
	return nil
}

// compare reads the stream backwards to the last event that the log holds. Then it reads on, because a database does not lose rows in order
// of position. It stops after a batch without orphans, if every message after the cursor was read. A control message about parking does not
// count as the last event. Its event may not be in the parking lot yet, and the control message of the adoption would hide the parking
// message from the relay.
func (a *Adopter) compare(ctx context.Context, plan *Adoption) (found bool, err error) {
	for sequence := plan.stream.LastSequence; sequence > 0 && sequence >= plan.stream.FirstSequence; {
		var places []outbox.Progress
		var events []Orphan
		for range compareBatch {
			if sequence == 0 || sequence < plan.stream.FirstSequence {
				break
			}
			meta, err := a.stream.At(ctx, sequence)
			if err != nil && !errors.Is(err, relay.ErrNoMessage) {
				return false, err
			}
			if sequence == plan.stream.LastSequence {
				plan.tail = meta
			}
			if meta.Own {
				plan.lastOwn = max(plan.lastOwn, sequence)
			}
			if meta.Own && meta.Parked == "" && meta.Progress.EventID != "" {
				places = append(places, meta.Progress)
			}
			if meta.Event != 0 && !meta.Redriven {
				plan.published = append(plan.published, meta.Progress.EventID)
				events = append(events, Orphan{meta.Progress, sequence})
			}
			sequence--
		}
		held, err := a.repair.HasEvents(ctx, places)
		if err != nil {
			return false, err
		}
		if !found && len(held) > 0 {
			plan.After, found = held[len(held)-1], true
		}
		orphans := slices.DeleteFunc(events, func(e Orphan) bool {
			return e.Position <= plan.cursor.PurgedTo || slices.Contains(held, e.Progress)
		})
		plan.Orphans = append(plan.Orphans, orphans...)
		if found && len(orphans) == 0 && (plan.OtherStream || sequence <= plan.cursor.StreamSequence) {
			break
		}
	}
	slices.Reverse(plan.Orphans)
	return found, nil
}

// progressAt returns the event at a position of the log. The position purgedTo is allowed even if retention has removed its event.
func (a *Adopter) progressAt(ctx context.Context, position, purgedTo outbox.Position) (outbox.Progress, error) {
	if position < purgedTo {
		return outbox.Progress{}, ErrNoSuchPosition.With("retention has removed events up to position %d; name that one or a later one", purgedTo)
	}
	place, found, err := a.repair.At(ctx, position)
	if err != nil || found {
		return place, err
	}
	if position == purgedTo { // also 0, before everything
		return outbox.Progress{Position: position}, nil
	}
	return outbox.Progress{}, ErrNoSuchPosition.With("the log has no event at position %d", position)
}
