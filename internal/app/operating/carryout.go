package operating

import (
	"context"
	"errors"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// sequenceGap is the distance between the sequences of the former stream and those of a new one. An append names the sequence that it
// follows, but not the stream. So if the new stream ends at that sequence, it could store a late append that was sent to the former stream.
// The gap prevents this. The cursor was written at most about a second before the last term ended, and no relay publishes a billion
// messages in a second.
const sequenceGap = 1_000_000_000

// ErrSequencesRepeat reports that the stream could store a late append that was sent to the former stream. A plan with AcceptRepeats is
// carried out anyway.
var ErrSequencesRepeat = fault.New(fault.Refused, "sequences_repeat", "the stream repeats sequences of the former one")

// chooseFirstSequence decides where the sequences of a new stream begin.
func (p *Adoption) chooseFirstSequence() {
	switch first := p.cursor.StreamSequence + sequenceGap + 1; {
	case p.cursor.StreamCreated == "": // no relay has ever published
		if p.CreateStream {
			p.FirstSequence = 1
		}
	case p.CreateStream:
		p.FirstSequence = first
	case !p.OtherStream || p.stream.LastSequence+1 >= first:
	case p.stream.Messages == 0:
		p.FirstSequence = first
	default:
		p.Repeats = true
	}
}

// Do carries out a plan. First it writes a control message into the stream, because every relay looks there first. The message says after
// which event the relay goes on. Then Do realigns the log, and writes the cursor. If the stream or the cursor has changed since the plan
// was made, Do changes nothing and fails with relay.ErrTailMoved or relay.ErrStaleRevision. If Do ends half-way, it can be called again.
func (a *Adopter) Do(ctx context.Context, plan Adoption) error {
	if plan.Repeats && !plan.AcceptRepeats {
		return ErrSequencesRepeat.With("the stream was made by somebody else and holds %d messages, and its sequences are not above those "+
			"of the former stream, so an append from before could still be stored in it: delete the stream and adopt again, which "+
			"creates it again", plan.stream.Messages)
	}
	cursor, err := a.repair.Cursor(ctx)
	if err != nil {
		return err
	}
	if cursor.Revision != plan.cursor.Revision {
		return relay.ErrStaleRevision.With("a relay has written since the plan was made; look again")
	}
	stream, err := a.prepare(ctx, plan)
	if err != nil {
		return err
	}
	message := relay.ControlMessage{Progress: plan.After, LastOwnSequence: plan.lastOwn}
	sequence, err := a.stream.PublishControl(ctx, stream.LastSequence, message)
	if err != nil {
		return err
	}
	// Every append under way has failed by now, so no event is published at its old position any more. A relay that takes over before
	// all events are moved halts again.
	if _, err := a.repair.Realign(ctx, operations.Realignment{
		Position: plan.After.Position, Published: plan.published, Complete: plan.complete,
	}); err != nil {
		return err
	}
	adopted := relay.Cursor{Progress: plan.After, StreamCreated: stream.Created, StreamSequence: sequence}
	return a.saveCursor(ctx, plan, adopted)
}

// prepare opens the stream of the plan, creates or raises it if the plan says so, and checks that it ends where the plan found its end.
func (a *Adopter) prepare(ctx context.Context, plan Adoption) (relay.StreamInfo, error) {
	var create uint64
	if plan.CreateStream {
		create = plan.FirstSequence
	}
	stream, err := a.stream.Open(ctx, create)
	if err != nil && (!plan.StreamUnfit || !errors.Is(err, relay.ErrStreamUnfit)) {
		return stream, err
	}
	same, end := plan.CreateStream || stream.Created == plan.stream.Created, plan.stream.LastSequence
	if plan.FirstSequence > 0 {
		end = plan.FirstSequence - 1
		if same && !plan.CreateStream {
			if stream, err = a.stream.Raise(ctx, plan.FirstSequence); err != nil {
				return stream, err
			}
		}
	}
	if !same || stream.LastSequence != end {
		return stream, errStreamChanged
	}
	if plan.FirstSequence > 0 {
		return stream, nil
	}
	return stream, a.sameTail(ctx, plan)
}

// sameTail fails if the last message of the stream differs from that of the plan. After the plan was made, the stream may have gone back
// and grown to the same sequence again, for example by another adoption.
func (a *Adopter) sameTail(ctx context.Context, plan Adoption) error {
	end := plan.stream.LastSequence
	if end == 0 || end < plan.stream.FirstSequence {
		return nil
	}
	tail, err := a.stream.At(ctx, end)
	if errors.Is(err, relay.ErrNoMessage) {
		tail, err = relay.MessageMeta{}, nil
	}
	if err == nil && tail != plan.tail {
		err = errStreamChanged
	}
	return err
}

var errStreamChanged = relay.ErrTailMoved.With("the stream has changed meanwhile; look again")

// saveCursor sets the cursor to the event that the control message names. If a relay has written the cursor in between, there are two
// cases. Either that relay has found the control message and goes on already: then saveCursor is done. Or the adopted stream may be gone by
// now: then saveCursor checks that the stream has the control message, and writes again. It reads the cursor before it checks the
// stream. So if a relay writes the cursor after that read, the write of saveCursor fails.
func (a *Adopter) saveCursor(ctx context.Context, plan Adoption, adopted relay.Cursor) error {
	revision := plan.cursor.Revision
	for {
		err := a.repair.Adopt(ctx, revision, adopted, plan.lastOwn == 0)
		if !errors.Is(err, relay.ErrStaleRevision) {
			return err
		}
		now, err := a.repair.Cursor(ctx)
		if err != nil {
			return err
		}
		if now.Halt == nil && now.StreamCreated == adopted.StreamCreated && now.StreamSequence >= adopted.StreamSequence {
			return nil
		}
		stream, err := a.stream.Look(ctx)
		if err != nil && (!plan.StreamUnfit || !errors.Is(err, relay.ErrStreamUnfit)) {
			return err
		}
		if stream.Created != adopted.StreamCreated {
			return errStreamChanged
		}
		message, err := a.stream.At(ctx, adopted.StreamSequence)
		if err != nil {
			return err
		}
		if !message.Own || message.Event != 0 || message.Progress != adopted.Progress {
			return errStreamChanged
		}
		revision = now.Revision
	}
}
