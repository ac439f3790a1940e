package operating

import (
	"context"
	"errors"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// sequenceGap is how far above the former stream's sequences those of a new stream begin. An append says after which sequence
// it belongs, and not in which stream. One that a frozen relay left under way for the former stream could be stored in the new
// one if that came to end at the same sequence. The cursor knows the former stream's end as it was at most about a second before
// the end of the last term; no relay publishes a billion messages in that time.
const sequenceGap = 1_000_000_000

// ErrSequencesRepeat reports that an append which was meant for the former stream could be stored in the present one.
var ErrSequencesRepeat = fault.New(fault.Refused, "sequences_repeat", "the stream repeats sequences of the former one")

// number decides where the sequences of a stream begin that is not the one that the relay knew.
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

// Do carries out a plan: it writes the place into the stream, where every relay looks first, puts the log in order, and writes
// the place into the cursor. If stream or cursor have changed since the plan was made, it changes nothing, and the answer is ErrTailMoved or ErrOutOfTurn. If Do
// dies half-way it can be done again.
func (a *Adopter) Do(ctx context.Context, plan Adoption) error {
	if plan.Repeats && !plan.AcceptRepeats {
		return ErrSequencesRepeat.With("the stream was made by somebody else and holds %d messages, and its sequences are not above those "+
			"of the former stream, so an append from before could still be stored in it: delete the stream, and adopt again, which "+
			"makes it again; or stop every instance and say --accept-repeats", plan.stream.Messages)
	}
	cursor, err := a.repair.Cursor(ctx)
	if err != nil {
		return err
	}
	if cursor.Revision != plan.cursor.Revision {
		return relay.ErrOutOfTurn.With("a relay has written since the plan was made; look again")
	}
	stream, err := a.prepare(ctx, plan)
	if err != nil {
		return err
	}
	notice := relay.ControlMessage{Progress: plan.After, LastOwnSequence: plan.lastOwn}
	sequence, err := a.stream.PublishControl(ctx, stream.LastSequence, notice)
	if err != nil {
		return err
	}
	if err := a.realign(ctx, plan); err != nil {
		return err
	}
	adopted := relay.Cursor{Progress: plan.After, StreamCreated: stream.Created, StreamSequence: sequence}
	return a.saveCursor(ctx, plan, adopted)
}

// prepare opens the stream that the plan is about, creates or raises it if the plan says so, and makes sure that it ends where
// the plan found its end.
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

// sameTail fails when the stream went back since the plan was made, and has grown to the same sequence with something else, by
// another adoption for example.
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

// remember sets the cursor to the place that the notice says. If a relay has written in between, it may have found the notice and
// go on already. Else the cursor is written once more, after a look at the stream: the adoption may be one of a stream that is
// gone by now. The cursor is read before the look, so that whatever happens in between makes the write fail again.
func (a *Adopter) saveCursor(ctx context.Context, plan Adoption, adopted relay.Cursor) error {
	revision := plan.cursor.Revision
	for {
		err := a.repair.Adopt(ctx, revision, adopted, plan.lastOwn == 0)
		if !errors.Is(err, relay.ErrOutOfTurn) {
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
		notice, err := a.stream.At(ctx, adopted.StreamSequence)
		if err != nil {
			return err
		}
		if !notice.Own || notice.Event != 0 || notice.Progress != adopted.Progress {
			return errStreamChanged
		}
		revision = now.Revision
	}
}
