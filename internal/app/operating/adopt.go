// Package operating is what people who run the relay do with it beyond looking: repair what it must not repair by itself.
package operating

import (
	"context"
	"errors"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The refusals of an adoption.
var (
	// ErrNotHalted : the relay is not halted, as far as the database knows.
	ErrNotHalted = fault.New(fault.Refused, "not_halted", "the relay is not halted, so there is nothing to repair")
	// ErrNowhere : it cannot be told where to go on; a person has to.
	ErrNowhere = fault.New(fault.Refused, "nowhere_to_go_on", "it cannot be told where to go on")
	// ErrUnfit reports that an adoption is not what repairs this halt.
	ErrUnfit = fault.New(fault.Refused, "stream_unfit", "an adoption does not repair this: the relay goes on by itself once the cause "+
		"is repaired. Say --position only to publish again what was stored meanwhile where no subscriber looks")
	// ErrNoSuchPosition : the log cannot be continued after that position.
	ErrNoSuchPosition = fault.New(fault.Invalid, "no_such_position", "the log cannot be continued after that position")
)

// atOnce is how many messages of the stream are compared with the log at once.
const compareBatch = 1000

// Adoption is a plan to accept the stream, and the log, as they are now, and to go on from a place that is said in the stream.
type Adoption struct {
	Halt          relay.Halt
	CreateStream  bool // there is no stream, it is made anew
	OtherStream   bool // the stream is not the one that the relay knew; what was redriven is redriven again
	After         outbox.Progress
	Why           string // Place
	Events        int64  // of the log, after Place, that are published next
	FirstSequence uint64 // the sequence of the next message, where the stream is made again or raised; 0: the stream goes on as it is
	// Repeats reports that the stream holds messages, and that its sequences are not above all those of the former one. Do refuses
	// that unless AcceptRepeats is set.
	Repeats       bool
	AcceptRepeats bool
	Incomplete    bool // the stream ends before Place, and retention has removed what lies between: the stream never gets it
	Orphans       []Orphan
	// Disorder is what of the log is out of place; its misplaced events are published, too, at the end of the log.
	Sequence operations.SequenceCheck
	// Unfit reports that the stream is not as publishing needs it. The relay goes on after Place only once that is repaired.
	StreamUnfit bool

	published []string // ids of events that the stream is known to hold
	complete  bool     // published are all after the cursor's last message

	cursor  relay.Cursor
	stream  relay.StreamInfo
	tail    relay.MessageMeta // of the stream's last message; zero if it is gone
	lastOwn uint64            // sequence of our last message that the stream still holds
}

// Ghost is an event that the stream holds and that the log should hold and does not: subscribers may have applied it, and the
// database does not know it any more.
type Orphan struct {
	outbox.Progress
	Sequence uint64 // in the stream
}

// Adopter makes and carries out adoptions.
type Adopter struct {
	repair operations.RelayRepair
	stream relay.StreamRepair
}

// NewAdopter returns an adopter. The publisher is its own, not a relay's.
func NewAdopter(bench operations.RelayRepair, publisher relay.StreamRepair) *Adopter {
	return &Adopter{repair: bench, stream: publisher}
}

// Plan says what would be done about the relay's halt. Without a position of the caller's own it goes on after the last event
// that the stream holds and the log knows, so that nothing is left out that is still there; at worst something is published
// again, which subscribers drop.
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
		cursor.Halt = relay.NewHalt(relay.HaltSequenceBehind, "position %d is dealt next, position %d is the highest, and %d events are misplaced",
			disorder.Next, disorder.Highest, disorder.Misplaced)
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
		err = ErrUnfit.Wrap(err)
	}
	if err != nil {
		return Adoption{}, err
	}
	plan.OtherStream = plan.CreateStream || cursor.StreamCreated != "" && cursor.StreamCreated != plan.stream.Created
	plan.chooseFirstSequence()
	if err := a.chooseStart(ctx, &plan, position); err != nil {
		return Adoption{}, err
	}
	plan.Events, err = a.repair.Behind(ctx, plan.After.Position)
	return plan, err
}

// choose finds the place to go on from.
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
		plan.Why = "the stream ends before it, and the log begins after it"
	case plan.OtherStream:
		plan.After = purgedTo
		plan.Why = "the stream holds nothing that the log knows, so all that the log still has goes into it"
	default:
		plan.Why = "the relay had come so far; the messages themselves are gone from the stream"
		if plan.After, err = a.progressAt(ctx, plan.cursor.Position, purgedTo.Position); err != nil {
			return ErrNowhere.With("neither the end of the stream nor position %d, up to which the relay had come, is in the log: "+
				"is this the right database? If so, say with --position after which event to go on", plan.cursor.Position)
		}
	}
	return nil
}

// compare walks back through the stream to the last event, by position, that the log holds, and on until a whole stretch has
// no ghost and nothing is left that came after the cursor: a database does not lose rows in order of position. A notice of parking does not count as the last event: its event
// may not be in the parking lot yet, and what takes the notice's place at the tail would make the relay forget it.
func (a *Adopter) compare(ctx context.Context, plan *Adoption) (found bool, err error) {
	for sequence := plan.stream.LastSequence; sequence > 0 && sequence >= plan.stream.FirstSequence; {
		var places []outbox.Progress
		var events []Orphan
		for range compareBatch {
			if sequence == 0 || sequence < plan.stream.FirstSequence {
				break
			}
			stamp, err := a.stream.At(ctx, sequence)
			if err != nil && !errors.Is(err, relay.ErrNoMessage) {
				return false, err
			}
			if sequence == plan.stream.LastSequence {
				plan.tail = stamp
			}
			if stamp.Own {
				plan.lastOwn = max(plan.lastOwn, sequence)
			}
			if stamp.Own && stamp.Parked == "" && stamp.Progress.EventID != "" {
				places = append(places, stamp.Progress)
			}
			if stamp.Event != 0 && !stamp.Redriven {
				plan.published = append(plan.published, stamp.Progress.EventID)
				events = append(events, Orphan{stamp.Progress, sequence})
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
		ghosts := slices.DeleteFunc(events, func(e Orphan) bool {
			return e.Position <= plan.cursor.PurgedTo || slices.Contains(held, e.Progress)
		})
		plan.Orphans = append(plan.Orphans, ghosts...)
		if found && len(ghosts) == 0 && (plan.OtherStream || sequence <= plan.cursor.StreamSequence) {
			break
		}
	}
	slices.Reverse(plan.Orphans)
	return found, nil
}

// known is the place of a position that the log holds, or that it may have lost to retention.
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
