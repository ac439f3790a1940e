// Package memory implements every driven port in memory, for tests. It passes the same contract suites as the real adapters, so tests run
// the use cases and the engine without servers, in any order of events. A test makes a Log, a Stream and a Lease, or an Inbox, and then the
// ports that use them.
//
// The methods that are not in a port simulate failures, and changes by operators: a database loses its connection, an operator deletes a
// row, a stream goes back to an older copy. A file that implements ports of one package begins with the name of that package.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Log is an outbox table with the visibility of Postgres: a row gets its position when it is written, a row can be read when its
// transaction has committed, and a row that was rolled back leaves a gap for ever.
type Log struct {
	mu        sync.Mutex
	rows      []*row          // rows[i] holds position i+1; nil: purged or rolled back
	lastGiven outbox.Position // the last position that was given out
	versions  map[versionKey]bool
	purged    []outbox.Entry
	purgedTo  outbox.Position
	cursor    knownCursor
	mark      outbox.Position // position of the cursor at the time marked
	marked    time.Time
	lot       lot
	changed   chan struct{} // closed and replaced whenever something may have become readable
}

type versionKey struct {
	key     outbox.Key
	version int64
}

type row struct {
	entry     outbox.Entry
	committed bool
}

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{versions: make(map[versionKey]bool), lot: make(lot), changed: make(chan struct{}), cursor: knownCursor{recordedTo: epoch}}
}

// Writer is an open transaction. It is not safe for concurrent use.
type Writer struct {
	log  *Log
	mine []outbox.Position
	over bool
}

var _ relay.Appender = (*Writer)(nil)

// Begin opens a transaction.
func (l *Log) Begin() *Writer { return &Writer{log: l} }

// Append writes a row with a position for each message, or for none. The rows cannot be read before Commit.
func (w *Writer) Append(ctx context.Context, messages ...outbox.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.over {
		return errTransactionOver
	}
	for _, message := range messages {
		if err := message.Validate(); err != nil {
			return err
		}
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	versions := make(map[versionKey]bool, len(messages))
	for _, message := range messages {
		version := versionKey{message.Key, message.Version}
		if w.log.versions[version] || versions[version] {
			return relay.ErrVersionTaken.With("%s already has an event of version %d", message.Key, message.Version)
		}
		versions[version] = true
	}
	first := w.log.lastGiven + 1
	for range messages {
		if w.log.lastGiven++; w.log.taken(w.log.lastGiven) {
			return relay.ErrSequenceBehind.With("position %d is taken", w.log.lastGiven)
		}
	}
	maps.Copy(w.log.versions, versions)
	for i, message := range messages {
		position := first + outbox.Position(i)
		w.log.put(&row{entry: outbox.Entry{Message: message, Position: position, RecordedAt: time.Now()}})
		w.mine = append(w.mine, position)
	}
	return nil
}

// taken reports whether a row has the position, committed or not.
func (l *Log) taken(position outbox.Position) bool {
	return int(position) <= len(l.rows) && l.rows[position-1] != nil
}

func (l *Log) put(r *row) {
	for len(l.rows) < int(r.entry.Position) {
		l.rows = append(l.rows, nil)
	}
	l.rows[r.entry.Position-1] = r
}

// Commit makes the rows readable.
func (w *Writer) Commit() error {
	if w.over {
		return errTransactionOver
	}
	w.over = true
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, position := range w.mine {
		w.log.rows[position-1].committed = true
	}
	w.log.announce()
	return nil
}

// Rollback leaves gaps where the rows were. After Commit it does nothing.
func (w *Writer) Rollback() {
	if w.over {
		return
	}
	w.over = true
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, position := range w.mine {
		message := w.log.rows[position-1].entry.Message
		delete(w.log.versions, versionKey{message.Key, message.Version})
		w.log.rows[position-1] = nil
	}
	w.log.announce()
}

func (l *Log) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// After finds open transactions by their rows. The Postgres adapter finds them by their locks instead.
func (l *Log) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	for {
		if err := ctx.Err(); err != nil {
			return relay.Page{}, err
		}
		l.mu.Lock()
		page, blocked, err := l.settled(from, limit)
		changed := l.changed
		l.mu.Unlock()
		if err != nil || len(page.Entries) > 0 || !blocked {
			return page, err
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (l *Log) settled(from outbox.Progress, limit relay.ReadLimit) (page relay.Page, blocked bool, err error) {
	if err := l.verify(from); err != nil {
		return page, false, err
	}
	open, bytes, position := false, 0, from.Position
	for ; int(position) < len(l.rows) && len(page.Entries) < limit.Count; position++ {
		row := l.rows[position]
		if row == nil {
			continue
		}
		if !row.committed {
			open = true
			break
		}
		entry, size := read(row.entry, limit)
		if bytes += size; bytes > limit.Bytes && len(page.Entries) > 0 {
			break
		}
		entry.Parked = l.lot[entry.Position] != nil
		page.Entries = append(page.Entries, entry)
	}
	page.More = l.committedAfter(position)
	return page, open && l.committedAfter(from.Position), nil
}

// read returns an entry as the log gives it to a relay, without headers or payload that are too large. It also returns how many bytes the
// entry takes of the read limit.
func read(entry outbox.Entry, limit relay.ReadLimit) (outbox.Entry, int) {
	if size := outbox.HeadersSize(entry.Headers); size > outbox.MaxHeaders {
		entry.Invalid = fmt.Sprintf("its headers take %d bytes, and at most %d can be sent", size, outbox.MaxHeaders)
		entry.Headers, entry.Payload = nil, nil
		return entry, limit.Bytes
	}
	if largest := limit.LargestPayload(); len(entry.Payload) > largest {
		entry.Invalid = outbox.TooLargeReason(strconv.Itoa(len(entry.Payload)), largest)
		entry.Payload = nil
		return entry, limit.Bytes
	}
	return entry, len(entry.Payload) + outbox.HeadersSize(entry.Headers)
}

func (l *Log) committedAfter(position outbox.Position) bool {
	return slices.ContainsFunc(l.rows[position:], func(r *row) bool { return r != nil && r.committed })
}

func (l *Log) verify(from outbox.Progress) error {
	switch {
	case from.Position == 0:
		return nil
	case int(from.Position) <= len(l.rows) && l.rows[from.Position-1] != nil && l.rows[from.Position-1].committed:
		if id := l.rows[from.Position-1].entry.ID; id != from.EventID {
			return relay.ErrHistoryLost.With("position %d holds event %s, not %s", from.Position, id, from.EventID)
		}
		return nil
	case from.Position <= l.purgedTo:
		return nil
	}
	return relay.ErrHistoryLost.With("there is no row at position %d, where event %s was", from.Position, from.EventID)
}

// Purge removes the rows up to a position, as retention does.
func (l *Log) Purge(upTo outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for position := range min(upTo, outbox.Position(len(l.rows))) {
		l.purge(position + 1)
	}
	l.purgedTo = max(l.purgedTo, upTo)
}

func (l *Log) purge(position outbox.Position) {
	if entry := l.committed(position); entry != nil {
		l.purged = append(l.purged, *entry)
		l.purgedTo = max(l.purgedTo, position)
	}
	l.rows[position-1] = nil
	delete(l.lot, position)
}

// purgeOld removes up to limit entries that the cursor passed before a time. position is where the cursor stands now.
func (l *Log) purgeOld(position outbox.Position, before time.Time, limit int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mark == 0 {
		l.mark, l.marked = position, time.Now()
	}
	if !l.marked.Before(before) {
		return 0
	}
	removed := 0
	for at := outbox.Position(1); at <= l.mark && removed < limit; at++ {
		parked := l.lot[at]
		if l.committed(at) != nil && (parked == nil || !parked.State.Waits() && parked.ChangedAt.Before(before)) {
			l.purge(at)
			removed++
		}
	}
	if removed < limit {
		l.mark, l.marked = position, time.Now()
	}
	return removed
}

// Age makes everything that happened so far older.
func (l *Log) Age(by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, row := range l.rows {
		if row != nil {
			row.entry.RecordedAt = row.entry.RecordedAt.Add(-by)
		}
	}
	for _, event := range l.lot {
		event.ChangedAt = event.ChangedAt.Add(-by)
	}
	if !l.marked.IsZero() {
		l.marked = l.marked.Add(-by)
	}
}

// committed returns the readable entry at position, or nil.
func (l *Log) committed(position outbox.Position) *outbox.Entry {
	if position < 1 || int(position) > len(l.rows) || l.rows[position-1] == nil || !l.rows[position-1].committed {
		return nil
	}
	return &l.rows[position-1].entry
}

// Delete removes a row by hand, without retention.
func (l *Log) Delete(position outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if row := l.rows[position-1]; row != nil {
		delete(l.versions, versionKey{row.entry.Key, row.entry.Version})
		l.rows[position-1] = nil
	}
}

// LoseAfter removes the rows after a position, as a failover that loses committed transactions does.
func (l *Log) LoseAfter(after outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lost := range l.rows[after:] {
		if lost != nil {
			delete(l.versions, versionKey{lost.entry.Key, lost.entry.Version})
		}
	}
	l.rows, l.lastGiven = l.rows[:after], after
}

// SetSequence makes position the last one that was given out, as a data-only restore, RESTART or setval does.
func (l *Log) SetSequence(position outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastGiven = position
}

// MakeUnpublishable changes a row so that it can never be published.
func (l *Log) MakeUnpublishable(position outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry := l.committed(position); entry != nil {
		entry.RecordedAt, entry.Invalid = time.Time{}, "its time of recording cannot be read"
	}
}

// SetHeaders replaces the headers of a row. It accepts headers that Append refuses.
func (l *Log) SetHeaders(position outbox.Position, headers map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry := l.committed(position); entry != nil {
		entry.Headers = headers
	}
}

// Readable returns every row that can be read, in order of position.
func (l *Log) Readable() []outbox.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var entries []outbox.Entry
	for _, row := range l.rows {
		if row != nil && row.committed {
			entries = append(entries, row.entry)
		}
	}
	return entries
}

// Committed returns every row that can be read, and every row that retention removed, in order of position.
func (l *Log) Committed() []outbox.Entry {
	entries := l.Readable()
	l.mu.Lock()
	defer l.mu.Unlock()
	entries = append(entries, l.purged...)
	slices.SortFunc(entries, func(a, b outbox.Entry) int { return cmp.Compare(a.Position, b.Position) })
	return entries
}

func (l *Log) at(position outbox.Position) (eventID string, purgedTo outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position > 0 && int(position) <= len(l.rows) && l.rows[position-1] != nil {
		eventID = l.rows[position-1].entry.ID
	}
	return eventID, l.purgedTo
}
