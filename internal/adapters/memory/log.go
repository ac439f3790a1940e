// Package memory implements every driven port in memory. It passes the same contracts as the real adapters, so that
// use cases and engine can be tested without servers, in any order of events that a test cares to arrange.
package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// Log is an outbox table with the visibility of Postgres: positions are dealt when a row is written, rows are seen when
// their transaction commits, and what was rolled back leaves a gap for ever.
type Log struct {
	mu       sync.Mutex
	rows     []*row // rows[i] holds position i+1; nil: purged or dead
	versions map[versionKey]bool
	purgedTo outbox.Position
	changed  chan struct{} // closed and replaced whenever something may have become readable
	careless bool
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
	return &Log{versions: make(map[versionKey]bool), changed: make(chan struct{})}
}

// Writer is an open transaction. It is not safe for concurrent use.
type Writer struct {
	log  *Log
	mine []outbox.Position
	over bool
}

var _ ports.Appender = (*Writer)(nil)

// Begin opens a transaction.
func (l *Log) Begin() *Writer { return &Writer{log: l} }

// Append deals positions to all messages, or to none; nobody sees them before Commit.
func (w *Writer) Append(ctx context.Context, messages ...outbox.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.over {
		return errDead
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
			return ports.ErrVersionTaken.With("%s already has an event of version %d", message.Key, message.Version)
		}
		versions[version] = true
	}
	maps.Copy(w.log.versions, versions)
	for _, message := range messages {
		position := outbox.Position(len(w.log.rows) + 1)
		w.log.rows = append(w.log.rows, &row{entry: outbox.Entry{Message: message, Position: position, RecordedAt: time.Now()}})
		w.mine = append(w.mine, position)
	}
	return nil
}

// Commit makes the rows readable.
func (w *Writer) Commit() error {
	if w.over {
		return errDead
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

// After implements the port. It knows open transactions by their rows, where the real log asks for lock holders.
func (l *Log) After(ctx context.Context, from outbox.Progress, limit outbox.Slice) ([]outbox.Entry, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l.mu.Lock()
		entries, blocked, err := l.settled(from, limit)
		changed := l.changed
		l.mu.Unlock()
		if err != nil || len(entries) > 0 || !blocked {
			return entries, err
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

func (l *Log) settled(from outbox.Progress, limit outbox.Slice) (entries []outbox.Entry, blocked bool, err error) {
	if err := l.verify(from); err != nil {
		return nil, false, err
	}
	open, bytes := false, 0
	for position := from.Position; int(position) < len(l.rows) && len(entries) < limit.Count; position++ {
		row := l.rows[position]
		if row == nil {
			continue
		}
		if !row.committed {
			if l.careless {
				continue
			}
			open = true
			break
		}
		if bytes += len(row.entry.Payload); bytes > limit.Bytes && len(entries) > 0 {
			break
		}
		entries = append(entries, row.entry)
	}
	return entries, open && l.committedAfter(from.Position), nil
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
			return ports.ErrHistoryLost.With("position %d holds event %s, not %s", from.Position, id, from.EventID)
		}
		return nil
	case from.Position <= l.purgedTo:
		return nil
	}
	return ports.ErrHistoryLost.With("there is no row at position %d, where event %s was", from.Position, from.EventID)
}

// Purge removes the rows up to a position, as retention does.
func (l *Log) Purge(upTo outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for position := range min(int(upTo), len(l.rows)) {
		l.rows[position] = nil
	}
	l.purgedTo = max(l.purgedTo, upTo)
}

// Delete removes a row as nobody should: by hand, without a word to retention.
func (l *Log) Delete(position outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if row := l.rows[position-1]; row != nil {
		delete(l.versions, versionKey{row.entry.Key, row.entry.Version})
		l.rows[position-1] = nil
	}
}

// Forget removes the rows after a position, as a failover that loses committed transactions does.
func (l *Log) Forget(after outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lost := range l.rows[after:] {
		if lost != nil {
			delete(l.versions, versionKey{lost.entry.Key, lost.entry.Version})
		}
	}
	l.rows = l.rows[:after]
}

// Committed returns every readable row in order of position.
func (l *Log) Committed() []outbox.Entry {
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

func (l *Log) at(position outbox.Position) (eventID string, purgedTo outbox.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position > 0 && int(position) <= len(l.rows) && l.rows[position-1] != nil {
		eventID = l.rows[position-1].entry.ID
	}
	return eventID, l.purgedTo
}

// IgnoreOpenWriters turns the wait for open transactions off. It exists for the mutant that proves that tests notice.
func (l *Log) IgnoreOpenWriters() { l.careless = true }
