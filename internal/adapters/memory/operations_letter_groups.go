package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// undecided returns a dead letter without its payload and headers. A waiting letter counts as behind the last dead letter before it.
func (i *Inbox) undecided(key letterKey) operations.UndecidedEvent {
	l := i.letters[key]
	u := operations.UndecidedEvent{
		Position: l.Position, EventID: l.ID, Key: l.Key, Type: l.Type, Reason: beginning(l.Error), First: l.FirstFailedAt, Last: l.DeadAt,
	}
	next := outbox.Position(0)
	for other, o := range i.letters {
		if other.subscriber == key.subscriber && l.Readable() && o.Key == l.Key && o.State == inbox.Dead && o.Position > l.Position &&
			(next == 0 || o.Position < next) {
			next = o.Position
		}
	}
	for other, o := range i.letters {
		if other.subscriber == key.subscriber && l.Readable() && o.Key == l.Key && o.tried() && o.Position > l.Position &&
			(next == 0 || o.Position < next) {
			u.EventsBehind++
		}
	}
	return u
}

// beginning returns as much of a reason as its fingerprint needs.
func beginning(reason string) string {
	runes := []rune(strings.ToValidUTF8(reason, "\uFFFD"))
	return string(runes[:min(len(runes), fault.LongestReason)])
}

// EachUndecided visits the letters after it has read all of them.
func (i *Inbox) EachUndecided(ctx context.Context, subscriber string, visit func(operations.UndecidedEvent) bool) error {
	var found []operations.UndecidedEvent
	err := i.once(ctx, "each undecided", func(*session) error {
		for _, key := range i.dead(subscriber) {
			found = append(found, i.undecided(key))
		}
		return nil
	})
	for n := 0; err == nil && n < len(found) && visit(found[n]); n++ {
	}
	return err
}

// Undecided runs as one statement.
func (i *Inbox) Undecided(
	ctx context.Context, subscriber string, after operations.DeadLetterCursor, limit int,
) (found []operations.UndecidedEvent, mark operations.DeadLetterCursor, err error) {
	mark = after
	err = i.once(ctx, "undecided", func(*session) error {
		if mark.Until.IsZero() {
			mark.Until = time.Now()
		}
		byDueTime := func(a, b letterKey) int {
			return cmp.Or(i.letters[a].due.Compare(i.letters[b].due), cmp.Compare(a.id, b.id))
		}
		dead := slices.DeleteFunc(i.dead(subscriber), func(key letterKey) bool {
			l := i.letters[key]
			return l.DeadAt.After(mark.Until) || cmp.Or(l.due.Compare(after.DueAt), cmp.Compare(key.id, after.ID)) <= 0
		})
		slices.SortFunc(dead, byDueTime)
		for _, key := range dead[:min(len(dead), max(limit, 0))] {
			listed := i.undecided(key)
			listed.EventsBehind = 0
			found = append(found, listed)
			mark.DueAt, mark.ID = i.letters[key].due, key.id
		}
		return nil
	})
	return found, mark, err
}

// chosen locks the dead letters with the ids, in order of position. It changes the letters that are still dead and belong to the choice.
func (i *Inbox) chosen(
	ctx context.Context, subscriber string, ids []string, choice operations.Choice, change func(s *session, keys []letterKey) error,
) error {
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var asked, locked []letterKey
	err = s.do(ctx, "read the chosen", func() error {
		asked = slices.DeleteFunc(i.dead(subscriber), func(key letterKey) bool { return !slices.Contains(ids, key.id) })
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range asked {
		if err := s.lock(ctx, key); err != nil {
			return err
		}
	}
	err = s.do(ctx, "look at the chosen", func() error {
		for _, key := range asked {
			if l, found := i.letters[key]; found && l.State == inbox.Dead && choice.Has(i.undecided(key)) {
				locked = append(locked, key)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := change(s, locked); err != nil {
		return err
	}
	return s.commit(ctx)
}

// RetryChosen waits for the transactions that work on the letters.
func (i *Inbox) RetryChosen(ctx context.Context, subscriber string, ids []string, choice operations.Choice) (retried int, err error) {
	err = i.chosen(ctx, subscriber, ids, choice, func(s *session, keys []letterKey) error {
		return s.do(ctx, "retry the chosen", func() error {
			for _, key := range keys {
				if l := i.letters[key]; l.Readable() {
					s.change(func() { i.letters[key] = l.retried() })
					retried++
				}
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	return retried, nil
}

// DiscardChosen waits for the transactions that work on the letters, and records the events as handled.
func (i *Inbox) DiscardChosen(ctx context.Context, subscriber string, ids []string, choice operations.Choice) (discarded int, err error) {
	err = i.chosen(ctx, subscriber, ids, choice, func(s *session, keys []letterKey) error {
		for _, key := range keys {
			if err := s.lock(ctx, recordKey(key)); err != nil {
				return err
			}
		}
		return s.do(ctx, "discard the chosen", func() error {
			for _, key := range keys {
				applied := i.records[recordKey(key)].applied
				s.change(func() { i.discard(key, applied) })
				if !applied {
					discarded++
				}
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	return discarded, nil
}
