package memory

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.UnitOfWork = (*Inbox)(nil)

// batch is the transaction of a lane.
type batch struct {
	effects
	inbox.Batch
	key        laneKey
	lane       lane
	pending    map[outbox.Key]bool // aggregates that have pending letters
	failing    map[string]bool     // events that have a failing letter
	own        map[string]letter   // letters that events of the batch have, by event
	known      map[string]record   // records of the events that existed before the batch
	handled    map[string]bool     // events of the batch that handleAll has passed
	seenBefore []inbox.Event       // events that were handled before, or that come twice in the batch
	outcome    inbox.Outcome
}

// Apply locks the lane, reads the letters, records the events, handles them, writes what the handlers collected, and moves the lane.
func (i *Inbox) Apply(
	ctx context.Context, subscriber string, b inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	s, err := i.open(ctx)
	if err != nil {
		return inbox.Outcome{}, err
	}
	work := &batch{
		effects: newEffects(s, subscriber, handler, judge), Batch: b, key: laneKey{subscriber, b.From.Lane},
		pending: make(map[outbox.Key]bool), failing: make(map[string]bool), own: make(map[string]letter), known: make(map[string]record),
		handled: make(map[string]bool),
	}
	defer work.close()
	for _, step := range []func(context.Context) error{
		work.lockCounts, work.lockLane, work.readLetters, work.record, work.handleAll, work.flush,
		work.recordSequences, work.count, work.move, work.commit,
	} {
		if err := step(ctx); err != nil {
			return inbox.Outcome{}, err
		}
	}
	work.outcome.Emitted = work.work.emitted
	return work.outcome, nil
}

// lockLane locks the lane.
func (b *batch) lockLane(ctx context.Context) error {
	return b.do(ctx, "take the lane", func() (err error) {
		if b.lane, err = b.takeLane(b.key, b.From); err != nil {
			return err
		}
		b.outcome.Checkpoint = b.lane.moved(b.To).Checkpoint
		return nil
	})
}

// readLetters reads which aggregates have pending letters.
func (b *batch) readLetters(ctx context.Context) error {
	if len(b.Events) == 0 {
		return nil
	}
	return b.do(ctx, "read letters", func() error {
		for key, l := range b.inbox.letters {
			switch {
			case key.subscriber != b.subscriber:
			case l.State == inbox.Failing:
				b.failing[key.id] = true
			case l.pending() && l.Readable():
				b.pending[l.Key] = true
			}
		}
		return nil
	})
}

// record locks the rows of the events in the inbox. It reads the rows that existed before, and the events' own letters. Letters are locked
// before records.
func (b *batch) record(ctx context.Context) error {
	if len(b.Events) == 0 {
		return nil
	}
	for _, event := range b.Events {
		if b.failing[event.ID] {
			if err := b.lock(ctx, letterKey{b.subscriber, event.ID}); err != nil {
				return err
			}
		}
	}
	for _, event := range b.Events {
		if unreadable(event) == nil {
			if err := b.insert(ctx, recordKey{b.subscriber, event.ID}); err != nil {
				return err
			}
		}
	}
	return b.do(ctx, "record", func() error {
		for _, event := range b.Events {
			if row, found := b.inbox.records[recordKey{b.subscriber, event.ID}]; found {
				b.known[event.ID] = row
			}
			if l, found := b.inbox.letters[letterKey{b.subscriber, event.ID}]; found {
				b.own[event.ID] = l
			}
		}
		return nil
	})
}

// insert locks a row of the inbox that does not exist yet. It waits for another transaction that inserts the same row.
func (b *batch) insert(ctx context.Context, key recordKey) error {
	b.inbox.mu.Lock()
	_, found := b.inbox.records[key]
	b.inbox.mu.Unlock()
	if found {
		return nil
	}
	return b.lock(ctx, key)
}

// handleAll handles the events, in order.
func (b *batch) handleAll(ctx context.Context) (err error) {
	for n, event := range b.Events {
		result := inbox.Duplicate
		if b.handled[event.ID] {
			b.seenBefore = append(b.seenBefore, event)
		} else if result, err = b.decide(ctx, n, event); err != nil {
			return err
		}
		b.handled[event.ID] = true
		b.outcome.Results = append(b.outcome.Results, result)
	}
	return nil
}

// decide decides what happens to one event. An event with a record is handled again if the record does not say applied and the event has no
// letter.
func (b *batch) decide(ctx context.Context, n int, event inbox.Event) (inbox.Result, error) {
	own, has := b.own[event.ID]
	known, recorded := b.known[event.ID]
	if own.State == inbox.Failing {
		has = false
	}
	switch reason := unreadable(event); {
	case reason != nil && has, recorded && (known.applied || has):
		b.seenBefore = append(b.seenBefore, event)
		return inbox.Duplicate, nil
	case reason != nil:
		event.Key, event.Version, event.Type = outbox.Key{}, 0, ""
		event.Entry = outbox.Entry{Message: event.Message}
		b.setAside(newLetter(event, inbox.Failure{Cause: reason, Permanent: true}))
		return inbox.SetAside, nil
	case b.pending[event.Key]:
		b.writeRecord(event, false)
		if !has {
			b.writeLetter(heldLetter(event))
		}
		return inbox.Held, nil
	case event.NoHandler:
		return b.setAsideUnhandled(event, own), nil
	case event.Suspect:
		return b.suspect(ctx, event, own)
	}
	b.writeRecord(event, true)
	return inbox.Applied, b.apply(ctx, n, event.Entry)
}

// unreadable returns why the inbox cannot record the event, or nil.
func unreadable(event inbox.Event) error {
	if event.Unreadable == nil && uuid.Validate(event.ID) != nil {
		return inbox.ErrUnreadable.With("its id %.64q is not a UUID", event.ID)
	}
	return event.Unreadable
}

// recordSequences records the new sequences of events that were handled before. It runs after the effects. A redelivery also locks the
// records after its effects, so the two transactions cannot deadlock.
func (b *batch) recordSequences(ctx context.Context) error {
	if len(b.seenBefore) == 0 {
		return nil
	}
	for _, event := range b.seenBefore {
		if err := b.lock(ctx, recordKey{b.subscriber, event.ID}); err != nil {
			return err
		}
	}
	return b.do(ctx, "meet", func() error {
		for _, event := range b.seenBefore {
			b.change(func() { b.inbox.recordSequence(recordKey{b.subscriber, event.ID}, event.Sequence) })
		}
		return nil
	})
}

func (i *Inbox) recordSequence(key recordKey, sequence uint64) {
	if row, found := i.records[key]; found {
		row.sequence = sequence
		i.records[key] = row
	}
	if l, found := i.letters[letterKey(key)]; found {
		l.sequence = sequence
		i.letters[letterKey(key)] = l
	}
}

// setAsideUnhandled sets aside an event for which this program has no handler.
func (b *batch) setAsideUnhandled(event inbox.Event, own letter) inbox.Result {
	b.pending[event.Key] = true
	b.writeRecord(event, false)
	b.setAside(*letterBefore(event, own).failed(inbox.Failure{Cause: inbox.ErrNoHandler, Permanent: true}))
	return inbox.SetAside
}

// letterBefore returns the letter of an event that is about to be tried.
func letterBefore(event inbox.Event, own letter) letter {
	l := newLetterOf(event)
	if own.State == inbox.Failing {
		l.Attempts, l.FirstFailedAt = own.Attempts, own.FirstFailedAt
	}
	return l
}

// suspect handles an event within a savepoint, and sets it aside if it fails.
func (b *batch) suspect(ctx context.Context, event inbox.Event, own letter) (inbox.Result, error) {
	failed, err := b.attempt(ctx, letterBefore(event, own))
	if err != nil {
		return 0, err
	}
	if failed == nil {
		b.writeRecord(event, true)
		return inbox.Applied, nil
	}
	b.pending[event.Key] = true
	b.writeRecord(event, false)
	b.setAside(*failed)
	return inbox.SetAside, nil
}

// writeRecord writes the event's row in the inbox. If the event is applied, writeRecord removes its letter.
func (b *batch) writeRecord(event inbox.Event, applied bool) {
	b.change(func() {
		b.inbox.records[recordKey{b.subscriber, event.ID}] = record{applied: applied, at: time.Now(), sequence: event.Sequence}
		if applied {
			delete(b.inbox.letters, letterKey{b.subscriber, event.ID})
		}
	})
}

// setAside keeps the letter of an event that failed.
func (b *batch) setAside(l letter) {
	b.writeLetter(l)
	b.outcome.Letters = append(b.outcome.Letters, l.Letter)
}

// writeLetter writes a letter.
func (b *batch) writeLetter(l letter) {
	b.change(func() { b.inbox.letters[letterKey{b.subscriber, l.ID}] = l })
}

// move moves the lane to its new position.
func (b *batch) move(ctx context.Context) error {
	return b.do(ctx, "move", func() error {
		b.change(func() { b.inbox.move(b.key, b.lane.StreamPosition, b.lane.moved(b.To)) })
		return nil
	})
}
