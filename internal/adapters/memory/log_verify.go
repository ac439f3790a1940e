package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// knownCursor is what a Log knows about the cursor. The log needs it to find misplaced rows: rows at positions that the relay had already
// passed when they were committed.
type knownCursor struct {
	position   outbox.Position
	created    string
	sequence   uint64
	recordedTo time.Time // when the latest row up to position was recorded; epoch: there is none
}

var epoch = time.Unix(0, 0).UTC()

// highest returns the highest position that must not be given out again.
func (l *Log) highest() outbox.Position {
	highest := max(l.cursor.position, l.purgedTo)
	for _, row := range l.rows {
		if row != nil && row.committed {
			highest = max(highest, row.entry.Position)
		}
	}
	for position := range l.lot {
		highest = max(highest, position)
	}
	return highest
}

// unparked returns the readable rows between two positions that are not in the parking lot. The first position is left out.
func (l *Log) unparked(after, upTo outbox.Position) []*row {
	var found []*row
	end := min(upTo, outbox.Position(len(l.rows)))
	for _, row := range l.rows[min(after, end):end] {
		if row != nil && row.committed && (l.lot[row.entry.Position] == nil || l.lot[row.entry.Position].EventID != row.entry.ID) {
			found = append(found, row)
		}
	}
	return found
}

// misplaced reports whether a row that is not parked came after the relay had passed its position.
func (l *Log) misplaced(entry outbox.Entry) bool {
	return entry.Position <= l.purgedTo || entry.Position <= l.cursor.position && entry.RecordedAt.After(l.cursor.recordedTo)
}

func (l *Log) allMisplaced() []*row {
	return slices.DeleteFunc(l.unparked(0, max(l.cursor.position, l.purgedTo)), func(r *row) bool { return !l.misplaced(r.entry) })
}

// excess compares the log with the stream after the cursor, up to a position and a sequence. It returns the number of rows that are not
// parked, minus the number of messages. If the result is above 0, some of the rows are misplaced.
func (l *Log) excess(place outbox.Position, sequence uint64) int {
	if l.cursor.created == "" || sequence < l.cursor.sequence || place <= l.cursor.position {
		return 0
	}
	return len(l.unparked(l.cursor.position, place)) - int(min(sequence-l.cursor.sequence, 1<<62))
}

// Verify looks at every row, each time.
func (l *Log) Verify(ctx context.Context, reached outbox.Progress, sequence uint64) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if reached.Position > l.purgedTo {
		if err := l.verify(reached); err != nil {
			return false, err
		}
	}
	if came := len(l.allMisplaced()) + max(0, l.excess(reached.Position, sequence)); came > 0 {
		return false, relay.ErrSequenceBehind.With("%d events came at positions up to %d after the relay", came, reached.Position)
	}
	after := l.rows[min(reached.Position, outbox.Position(len(l.rows))):]
	more = slices.ContainsFunc(after, func(r *row) bool { return r != nil && r.committed })
	return more, l.behind(reached.Position)
}

func (l *Log) behind(reached outbox.Position) error {
	if highest := max(l.highest(), reached); l.lastGiven < highest {
		return relay.ErrSequenceBehind.With("the next position is %d, but %d was given out before", l.lastGiven+1, highest)
	}
	return nil
}

// save records a cursor. It fails if the new cursor would hide misplaced rows: afterwards they would look like other rows.
func (l *Log) save(cursor relay.Cursor) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.cursor
	recorded := later(before.recordedTo, cursor.RecordedTo)
	if cursor.RecordedTo.IsZero() {
		recorded = l.recordedTo(cursor.Position)
	}
	if err := l.behind(cursor.Position); err != nil {
		return recorded, err
	}
	hidden := slices.ContainsFunc(l.unparked(l.purgedTo, before.position), func(r *row) bool {
		return r.entry.RecordedAt.After(before.recordedTo) && !r.entry.RecordedAt.After(recorded)
	})
	if hidden || l.excess(cursor.Position, cursor.StreamSequence) > 0 {
		return recorded, relay.ErrSequenceBehind.With("events came at positions up to %d after the relay", cursor.Position)
	}
	l.cursor = knownCursor{cursor.Position, cursor.StreamCreated, cursor.StreamSequence, recorded}
	l.mark = min(l.mark, cursor.Position)
	return recorded, nil
}

// recordedTo returns when the latest row between the cursor and a position was recorded.
func (l *Log) recordedTo(position outbox.Position) time.Time {
	recorded := later(l.cursor.recordedTo, epoch)
	for _, row := range l.rows[min(l.cursor.position, outbox.Position(len(l.rows))):] {
		if row != nil && row.committed && row.entry.Position <= position {
			recorded = later(recorded, row.entry.RecordedAt)
		}
	}
	return recorded
}

// adopted records a cursor without a check: all rows before it count as passed.
func (l *Log) adopted(cursor relay.Cursor) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	recorded := later(l.cursor.recordedTo, epoch)
	for _, row := range l.unparked(0, cursor.Position) {
		recorded = later(recorded, row.entry.RecordedAt)
	}
	l.cursor = knownCursor{cursor.Position, cursor.StreamCreated, cursor.StreamSequence, recorded}
	l.mark = min(l.mark, cursor.Position)
	return recorded
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// CheckSequence counts the misplaced events, and returns the position that is given out next.
func (s *CursorStore) CheckSequence(ctx context.Context) (operations.SequenceCheck, error) {
	if err := ctx.Err(); err != nil {
		return operations.SequenceCheck{}, err
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return operations.SequenceCheck{
		Misplaced: int64(len(s.log.allMisplaced())), NextPosition: s.log.lastGiven + 1, HighestPosition: s.log.highest(),
	}, nil
}

// Realign does not wait for open writers: it fails if there is one.
func (s *CursorStore) Realign(ctx context.Context, r operations.Realignment) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	moving, dropped := l.chosen(r)
	if len(moving) == 0 && len(dropped) == 0 && l.behind(0) == nil {
		return 0, nil
	}
	if slices.ContainsFunc(l.rows, func(r *row) bool { return r != nil && !r.committed }) {
		return 0, errWriters
	}
	l.lastGiven = max(l.lastGiven, l.highest())
	for _, row := range append(slices.Clone(moving), dropped...) {
		l.rows[row.entry.Position-1] = nil
	}
	for _, row := range inOrderOfTime(moving) {
		l.lastGiven++
		row.entry.Position = l.lastGiven
		l.put(row)
	}
	l.announce()
	return int64(len(moving)), nil
}

// chosen returns the rows that get new positions, and the rows that are removed. A removed row is published already, and its position is
// one that retention has removed before.
func (l *Log) chosen(r operations.Realignment) (moving, dropped []*row) {
	candidates := l.allMisplaced()
	if r.Complete {
		candidates = append(candidates, l.unparked(l.cursor.position, r.Position)...)
	}
	aggregates := make(map[outbox.Key]bool)
	for _, row := range candidates {
		switch {
		case !slices.Contains(r.Published, row.entry.ID):
			aggregates[row.entry.Key] = true
			moving = append(moving, row)
		case row.entry.Position <= l.purgedTo:
			dropped = append(dropped, row)
		}
	}
	for _, row := range l.unparked(r.Position, outbox.Position(len(l.rows))) {
		if aggregates[row.entry.Key] && !slices.Contains(moving, row) {
			moving = append(moving, row)
		}
	}
	return moving, slices.DeleteFunc(dropped, func(r *row) bool { return slices.Contains(moving, r) })
}

// inOrderOfTime sorts rows by the time at which they were recorded. Rows of one aggregate are sorted by version.
func inOrderOfTime(rows []*row) []*row {
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(a.entry.Version, b.entry.Version) })
	latest, due := make(map[outbox.Key]time.Time), make(map[*row]time.Time)
	for _, row := range rows {
		latest[row.entry.Key] = later(latest[row.entry.Key], row.entry.RecordedAt)
		due[row] = latest[row.entry.Key]
	}
	slices.SortStableFunc(rows, func(a, b *row) int { return due[a].Compare(due[b]) })
	return rows
}
