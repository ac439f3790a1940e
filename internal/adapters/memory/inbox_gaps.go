package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var _ inbox.Log = (*Inbox)(nil)

// ReadHole runs as one statement.
func (i *Inbox) ReadHole(ctx context.Context, subscriber string, hole inbox.Hole, limit inbox.ReadLimit) (lost inbox.HoleContents, err error) {
	err = i.once(ctx, "look for what a hole took", func(*session) error {
		if i.log == nil || i.log.streamCreated() != hole.Stream {
			unknown := hole.MaxUnknown(hole.Size(), i.seenIn(subscriber, hole))
			lost = inbox.HoleContents{OtherStream: true, CompleteTo: hole.LastPosition(0), LostMessages: unknown}
			lost.Why = fmt.Sprintf("this database is not the one whose log fills the stream of %s", hole.Stream)
			return nil
		}
		i.log.mu.Lock()
		defer i.log.mu.Unlock()
		shown := hole.EndsBefore
		if at := i.log.cursor; hole.Last <= at.sequence && at.sequence <= hole.LastRead {
			hole.EndsBefore = max(hole.EndsBefore, at.position+1, hole.After+1)
		}
		if hole.EndsBefore <= hole.After {
			lost.EndUnknown = true
			return nil
		}
		unsure := hole.After == 0
		if unsure {
			hole.After = i.log.earliest(hole, cmp.Or(shown, hole.EndsBefore))
		}
		entries, gone := i.log.inHole(hole, func(id string) bool {
			_, recorded := i.records[recordKey{subscriber, id}]
			return recorded
		})
		known := 0
		if !unsure {
			known = len(entries)
		}
		lost = i.choose(subscriber, hole, entries, limit)
		if lost.LostMessages = hole.MaxUnknown(gone, known); lost.LostMessages > 0 {
			lost.Why = fmt.Sprintf("retention has removed the log up to position %d", i.log.purgedTo)
		}
		return nil
	})
	return lost, err
}

// choose returns the events in a hole that belong to the lane, from the first one up to the limit.
func (i *Inbox) choose(subscriber string, hole inbox.Hole, entries []outbox.Entry, limit inbox.ReadLimit) (lost inbox.HoleContents) {
	bytes, highest := 0, outbox.Position(0)
	for _, entry := range entries {
		highest = entry.Position
		_, recorded := i.records[recordKey{subscriber, entry.ID}]
		if recorded || !i.subscribers[subscriber].types[entry.Type] || inbox.LaneOf(entry.Key, hole.Lanes) != hole.Lane {
			continue
		}
		bytes += len(entry.Payload)
		if n := len(lost.Events); n > 0 && (n >= limit.Count || bytes > limit.Bytes) {
			lost.CompleteTo, lost.More = max(hole.After, lost.Events[n-1].Position), true
			return lost
		}
		lost.Events = append(lost.Events, inbox.Event{Entry: entry, Sequence: hole.Last})
	}
	lost.CompleteTo = hole.LastPosition(highest)
	return lost
}

// seenIn counts the events that the subscriber has read at the sequences of a hole.
func (i *Inbox) seenIn(subscriber string, hole inbox.Hole) (count int) {
	for key, row := range i.records {
		if key.subscriber == subscriber && hole.First <= row.sequence && row.sequence <= hole.Last {
			count++
		}
	}
	return count
}

// CursorBetween runs as one statement.
func (i *Inbox) CursorBetween(ctx context.Context, stream string, from, to uint64) (reached inbox.LogCursor, err error) {
	err = i.once(ctx, "look how far the log is", func(*session) error {
		if reached.OtherStream = i.log == nil || i.log.streamCreated() != stream; !reached.OtherStream {
			i.log.mu.Lock()
			defer i.log.mu.Unlock()
			at := i.log.cursor
			if from <= at.sequence && at.sequence <= to {
				reached.Known, reached.Position = true, at.position
			}
		}
		return nil
	})
	return reached, err
}

// inHole returns the events that the stream had in a hole, in order of position. gone is how many positions of the hole have no event any
// more, neither in the log nor in the inbox.
func (l *Log) inHole(hole inbox.Hole, handled func(id string) bool) (entries []outbox.Entry, gone int) {
	known := make(map[outbox.Position]bool)
	for _, purged := range l.purged {
		known[purged.Position] = handled(purged.ID)
	}
	// last becomes the last position of an event that only the hole can have had. If a lower position is in PositionsAfter, the message after
	// the hole is a duplicate, so the hole had that event too.
	last := hole.EndsBefore - 1
	for last > hole.After && !l.missing(hole, last) {
		last--
	}
	end := hole.EndsBefore
	for position, parked := range l.lot {
		if wasRedriven(parked, hole) { // the events before it were in the stream earlier
			last, end = max(last, position), max(end, position+1)
		}
	}
	for position := outbox.Position(1); position < end; position++ {
		entry, parked := l.committed(position), l.lot[position]
		switch {
		case entry == nil && hole.After < position && position < hole.EndsBefore && position <= l.purgedTo && !known[position] &&
			!slices.Contains(hole.PositionsAfter, position):
			gone++
		case entry == nil:
		case parked == nil && hole.After < position && position <= last, wasRedriven(parked, hole):
			entries = append(entries, *entry)
		}
	}
	return entries, gone
}

// wasRedriven reports whether an event of the parking lot was redriven into a hole.
func wasRedriven(parked *relay.ParkedEvent, hole inbox.Hole) bool {
	return parked != nil && parked.State == relay.Redriven && hole.First <= parked.Sequence && parked.Sequence <= hole.Last
}

// missing reports whether the log has an event at a position that only the hole can have had. Such an event is not in the parking lot, and
// the stream does not have it after the hole.
func (l *Log) missing(hole inbox.Hole, position outbox.Position) bool {
	return l.committed(position) != nil && l.lot[position] == nil && !slices.Contains(hole.PositionsAfter, position)
}

// earliest counts missing events backwards from a position, until there are as many events as the hole has messages. It returns
// the position before these events, or 0 if the log has fewer events.
func (l *Log) earliest(hole inbox.Hole, end outbox.Position) outbox.Position {
	count := 0
	for position := end - 1; position > 0; position-- {
		if l.missing(hole, position) {
			if count++; count == hole.Size() {
				return position - 1
			}
		}
	}
	return 0
}

// Park puts an event into the parking lot, in a state, as the relay and operators do. sequence is the sequence to which the event was
// redriven.
func (l *Log) Park(position outbox.Position, state relay.ParkedState, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry := l.committed(position); entry != nil {
		l.lot[position] = &relay.ParkedEvent{
			Progress: entry.Progress(), Key: entry.Key, Type: entry.Type, Reason: "refused", State: state, Sequence: sequence,
			ParkedAt: time.Now(), ChangedAt: time.Now(),
		}
	}
}

// counts are the counters of a subscriber.
type counts struct {
	filled, missed int64
	stream         string
	removed        map[uint64]bool // sequences of the stream that were counted as missed
}

// lockCounts locks the subscriber's row, if the batch changes it. Operators lock this row before lanes, so a batch does so too.
func (b *batch) lockCounts(ctx context.Context) error {
	if !b.ChangesCounts() {
		return nil
	}
	return b.lockSubscriber(ctx, b.subscriber)
}

// count adds to the subscriber's counts.
func (b *batch) count(ctx context.Context) error {
	if !b.ChangesCounts() {
		return nil
	}
	return b.do(ctx, "count", func() error {
		b.change(func() {
			row := b.inbox.subscribers[b.subscriber]
			for _, result := range b.outcome.Results[:b.FromLog] {
				if result != inbox.Duplicate {
					row.filled++
				}
			}
			if row.stream != b.From.Stream {
				row.stream, row.removed = b.From.Stream, nil
			}
			row.removed = maps.Clone(row.removed)
			if row.removed == nil {
				row.removed = make(map[uint64]bool)
			}
			for n := range uint64(b.Missed.Count) {
				if sequence := b.Missed.First + n; !row.removed[sequence] {
					row.removed[sequence] = true
					row.missed++
				}
			}
			b.inbox.subscribers[b.subscriber] = row
		})
		return nil
	})
}
