package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.Sweeper = (*Inbox)(nil)

// Candidates runs as one statement.
func (i *Inbox) Candidates(
	ctx context.Context, subscriber, stream string, age time.Duration, limit int,
) (ids []string, why string, err error) {
	err = i.once(ctx, "forgettable", func(*session) error {
		if i.log == nil || i.log.streamCreated() != stream {
			why = fmt.Sprintf("this database is not the one whose log fills the stream of %s: no inbox row is deleted, because only that "+
				"log shows which events it can publish again", stream)
			return nil
		}
		handled := i.handledBefore(subscriber, time.Now().Add(-age))
		for _, id := range slices.SortedFunc(maps.Keys(handled), func(a, b string) int {
			return cmp.Or(handled[a].Compare(handled[b]), cmp.Compare(a, b))
		}) {
			if len(ids) < limit && !i.log.has(id) {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, why, err
}

// handledBefore returns the events that were applied or discarded before a time, with the time of each.
func (i *Inbox) handledBefore(subscriber string, cutoff time.Time) map[string]time.Time {
	handled := make(map[string]time.Time)
	for key, row := range i.records {
		if key.subscriber == subscriber && row.applied && row.at.Before(cutoff) {
			handled[key.id] = row.at
		}
	}
	for key, l := range i.letters {
		if key.subscriber == subscriber && l.State == inbox.Discarded && l.changed.Before(cutoff) {
			handled[key.id] = l.changed
		}
	}
	return handled
}

// Sweep runs as one transaction, which locks what it removes.
func (i *Inbox) Sweep(ctx context.Context, subscriber, stream string, ids []string, first, passed uint64) (forgotten int, err error) {
	s, err := i.open(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close()
	for _, id := range ids {
		for _, key := range []any{letterKey{subscriber, id}, recordKey{subscriber, id}} {
			if err := s.lock(ctx, key); err != nil {
				return 0, err
			}
		}
	}
	err = s.do(ctx, "forget", func() error {
		if !i.passed(subscriber, stream, passed) {
			return nil
		}
		for _, id := range ids {
			if i.forget(s, subscriber, id, first) {
				forgotten++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return forgotten, s.commit(ctx)
}

// passed reports whether every lane stands in the stream, at a sequence or after it.
func (i *Inbox) passed(subscriber, stream string, sequence uint64) bool {
	lanes := i.lanesOf(subscriber)
	return len(lanes) > 0 && !slices.ContainsFunc(lanes, func(lane inbox.Checkpoint) bool {
		return lane.Stream != stream || lane.Sequence < sequence
	})
}

// forget removes the record and the discarded letter of an event that was last read before a sequence. It reports whether it has removed
// anything.
func (i *Inbox) forget(s *session, subscriber, id string, first uint64) bool {
	at, key := recordKey{subscriber, id}, letterKey{subscriber, id}
	row, recorded := i.records[at]
	l, has := i.letters[key]
	discarded := has && l.State == inbox.Discarded
	if last := max(row.sequence, l.sequence); !recorded && !discarded || has && !discarded || last == 0 || last >= first {
		return false
	}
	s.change(func() {
		delete(i.records, at)
		delete(i.letters, key)
	})
	return true
}

// streamCreated returns the identity of the stream that the log fills.
func (l *Log) streamCreated() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursor.created
}

// has reports whether the log or its parking lot has the event.
func (l *Log) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, row := range l.rows {
		if row != nil && row.entry.ID == id {
			return true
		}
	}
	for _, event := range l.lot {
		if event.EventID == id {
			return true
		}
	}
	return false
}
