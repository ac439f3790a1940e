package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.UnitOfWork = (*Inbox)(nil)

// batch is the transaction of a lane.
type batch struct {
	effects
	inbox.Batch
	key     laneKey
	lane    lane
	moved   bool                    // early, as a mutant does it
	pending map[outbox.Key]bool     // aggregates that have pending letters
	own     map[string]letter       // letters that events of the batch have, by event
	known   map[string]record       // what was recorded of the events before
	dealt   map[string]inbox.Result // events of the batch that were met
	outcome inbox.Outcome
}

// Apply takes the lane, reads its letters, records the events, handles them, writes what they collected, and moves the lane.
func (i *Inbox) Apply(
	ctx context.Context, subscriber string, b inbox.Batch, handler inbox.Handler, judge inbox.Judge,
) (inbox.Outcome, error) {
	s, err := i.open(ctx)
	if err != nil {
		return inbox.Outcome{}, err
	}
	work := &batch{
		effects: newEffects(s, subscriber, handler, judge), Batch: b, key: laneKey{subscriber, b.From.Lane},
		pending: make(map[outbox.Key]bool), own: make(map[string]letter), known: make(map[string]record),
		dealt: make(map[string]inbox.Result),
	}
	defer work.close()
	for _, step := range []func(context.Context) error{
		work.take, work.readLetters, work.record, work.handleAll, work.flush, work.move, work.commit,
	} {
		if err := step(ctx); err != nil {
			return inbox.Outcome{}, err
		}
	}
	return work.outcome, nil
}

// take locks the lane.
func (b *batch) take(ctx context.Context) error {
	return b.do(ctx, "take the lane", func() (err error) {
		if b.lane, err = b.takeLane(b.key, b.From); err != nil {
			return err
		}
		b.outcome.Checkpoint = b.lane.moved(b.To).Checkpoint
		if b.moved = b.inbox.mutants.moveEarly; b.moved {
			b.inbox.move(b.key, b.lane.moved(b.To))
		}
		return nil
	})
}

// readLetters reads which aggregates have pending letters, and the letters of the batch's own events.
func (b *batch) readLetters(ctx context.Context) error {
	if len(b.Events) == 0 {
		return nil
	}
	return b.do(ctx, "read letters", func() error {
		for key, l := range b.inbox.letters {
			if key.subscriber == b.subscriber && l.pending() && l.Readable() && !b.inbox.mutants.holdNothing {
				b.pending[l.Key] = true
			}
		}
		return nil
	})
}

// record takes the rows of the events in the inbox, and reads those that were there, and the events' own letters.
func (b *batch) record(ctx context.Context) error {
	if len(b.Events) == 0 {
		return nil
	}
	for _, event := range b.Events {
		if event.Unreadable == nil {
			if err := b.lock(ctx, recordKey{b.subscriber, event.ID}); err != nil {
				return err
			}
		}
	}
	return b.do(ctx, "record", func() error {
		for _, event := range b.Events {
			row, found := b.inbox.records[recordKey{b.subscriber, event.ID}]
			if found && !b.inbox.mutants.knowNothing {
				b.known[event.ID] = row
			}
			if l, found := b.inbox.letters[letterKey{b.subscriber, event.ID}]; found {
				b.own[event.ID] = l
			}
		}
		return nil
	})
}

// handleAll deals with the events, in order.
func (b *batch) handleAll(ctx context.Context) error {
	for n, event := range b.Events {
		result, met := b.dealt[event.ID]
		switch {
		case !met:
			var err error
			if result, err = b.deal(ctx, n, event); err != nil {
				return err
			}
		case result == inbox.Applied:
			result = inbox.Duplicate
		}
		b.dealt[event.ID] = result
		b.outcome.Results = append(b.outcome.Results, result)
	}
	return nil
}

// deal decides about one event.
func (b *batch) deal(ctx context.Context, n int, event inbox.Event) (inbox.Result, error) {
	own, has := b.own[event.ID]
	known, recorded := b.known[event.ID]
	switch {
	case has && own.State != inbox.Failing || recorded:
		return b.again(event, own, has, known), nil
	case event.Unreadable != nil:
		b.aside(newLetter(event, inbox.Failure{Cause: event.Unreadable, Permanent: true}), event.Sequence)
		return inbox.SetAside, nil
	case b.pending[event.Key]:
		b.put(event, false)
		b.keep(heldLetter(event))
		return inbox.Held, nil
	case event.Suspect:
		return b.suspect(ctx, event, own)
	}
	b.drop(own)
	b.put(event, true)
	return inbox.Applied, b.apply(ctx, n, event.Entry)
}

// again deals with an event that was dealt with before, or has a letter. It notes where the event was met.
func (b *batch) again(event inbox.Event, own letter, has bool, known record) inbox.Result {
	key := recordKey{b.subscriber, event.ID}
	b.change(func() {
		if row, found := b.inbox.records[key]; found {
			row.sequence = event.Sequence
			b.inbox.records[key] = row
		}
		if l, found := b.inbox.letters[letterKey(key)]; found {
			l.sequence = event.Sequence
			b.inbox.letters[letterKey(key)] = l
		}
	})
	switch {
	case known.applied || !has || !own.pending():
		return inbox.Duplicate
	case own.Error != "":
		return inbox.SetAside
	}
	return inbox.Held
}

// suspect handles an event within a savepoint, and sets it aside if it fails.
func (b *batch) suspect(ctx context.Context, event inbox.Event, own letter) (inbox.Result, error) {
	before := own
	if own.ID == "" {
		before = newLetterOf(event)
	}
	failed, err := b.attempt(ctx, before)
	if err != nil {
		return 0, err
	}
	if failed == nil {
		b.drop(own)
		b.put(event, true)
		return inbox.Applied, nil
	}
	b.pending[event.Key] = true
	if b.inbox.mutants.lettersApart {
		return inbox.SetAside, b.apart(ctx, *failed)
	}
	b.put(event, false)
	b.aside(*failed, event.Sequence)
	return inbox.SetAside, nil
}

// put writes the event's row in the inbox.
func (b *batch) put(event inbox.Event, applied bool) {
	b.change(func() {
		b.inbox.records[recordKey{b.subscriber, event.ID}] = record{applied: applied, at: time.Now(), sequence: event.Sequence}
	})
}

// aside keeps the letter of an event that failed.
func (b *batch) aside(l letter, sequence uint64) {
	l.sequence = sequence
	b.keep(l)
	b.outcome.Letters = append(b.outcome.Letters, l.Letter)
}

// keep writes a letter.
func (b *batch) keep(l letter) {
	b.change(func() { b.inbox.letters[letterKey{b.subscriber, l.ID}] = l })
}

// drop ends the letter of an event, if it has one.
func (b *batch) drop(own letter) {
	if own.ID != "" {
		b.change(func() { delete(b.inbox.letters, letterKey{b.subscriber, own.ID}) })
	}
}

// apart commits a letter at once, as a mutant does it.
func (b *batch) apart(ctx context.Context, l letter) error {
	b.outcome.Letters = append(b.outcome.Letters, l.Letter)
	return b.do(ctx, "letter apart", func() error {
		b.inbox.letters[letterKey{b.subscriber, l.ID}] = l
		return nil
	})
}

// move puts the lane at its new place.
func (b *batch) move(ctx context.Context) error {
	return b.do(ctx, "move", func() error {
		if !b.moved {
			b.change(func() { b.inbox.move(b.key, b.lane.moved(b.To)) })
		}
		return nil
	})
}
