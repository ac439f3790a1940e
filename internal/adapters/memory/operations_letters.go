package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.DeadLetterAdmin = (*Inbox)(nil)

// Letters runs as one statement.
func (i *Inbox) Letters(ctx context.Context, subscriber string, limit int) ([]inbox.Letter, error) {
	var found []inbox.Letter
	err := i.once(ctx, "letters", func(*session) error {
		for key := range i.letters {
			if state := i.state(key); key.subscriber == subscriber && state != inbox.Waiting && state != inbox.Discarded {
				listed := i.shown(key)
				listed.Payload, listed.Headers = nil, nil
				found = append(found, listed)
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b inbox.Letter) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return found[:min(limit, len(found))], err
}

// Letter runs as one statement.
func (i *Inbox) Letter(ctx context.Context, subscriber, id string) (found inbox.Letter, err error) {
	err = i.once(ctx, "letter", func(*session) error {
		key := letterKey{subscriber, id}
		if _, has := i.letters[key]; !has {
			return inbox.ErrNoLetter.With("subscriber %s has no dead letter %s", subscriber, id)
		}
		found = i.shown(key)
		return nil
	})
	return found, err
}

// changeLetter changes one letter in a transaction of its own.
func (i *Inbox) changeLetter(ctx context.Context, subscriber, id string, change func(s *session, key letterKey, l letter) error) error {
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	key := letterKey{subscriber, id}
	if err := s.lockLetter(ctx, key, "lock the letter", func(l letter) error { return change(s, key, l) }); err != nil {
		return err
	}
	return s.commit(ctx)
}

// retried returns a letter that is tried again at once.
func (l letter) retried() letter {
	l.become(inbox.Retrying)
	l.Attempts = 0
	return l
}

// Retry waits for the transaction that works on the letter.
func (i *Inbox) Retry(ctx context.Context, subscriber, id string) error {
	return i.changeLetter(ctx, subscriber, id, func(s *session, key letterKey, l letter) error {
		switch state := i.state(key); {
		case state == inbox.Discarded:
			return inbox.ErrNoLetter.With("event %s was discarded for subscriber %s", id, subscriber)
		case !l.Readable():
			return inbox.ErrNotDead.With("message %s is not an event, so nothing can handle it: it can only be discarded", id)
		case state == inbox.Waiting:
			return inbox.ErrNotDead.With("event %s waits behind an earlier event of %s: retry the earlier event", id, l.Key)
		case state != inbox.Dead:
			return inbox.ErrNotDead.With("event %s is being retried already, and has failed %d times", id, l.Attempts)
		}
		s.change(func() { i.letters[key] = l.retried() })
		return nil
	})
}

// dead returns the keys of a subscriber's dead letters, in order of position.
func (i *Inbox) dead(subscriber string) []letterKey {
	var dead []letterKey
	for key, l := range i.letters {
		if key.subscriber == subscriber && l.State == inbox.Dead {
			dead = append(dead, key)
		}
	}
	slices.SortFunc(dead, func(a, b letterKey) int { return cmp.Compare(i.letters[a].Position, i.letters[b].Position) })
	return dead
}

// Discard waits for the transaction that works on the letter, and records the event as handled.
func (i *Inbox) Discard(ctx context.Context, subscriber, id string) error {
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	key, at := letterKey{subscriber, id}, recordKey{subscriber, id}
	err = s.lockLetter(ctx, key, "lock the letter", func(l letter) error {
		if l.State == inbox.Discarded {
			return inbox.ErrNoLetter.With("event %s was discarded for subscriber %s before", id, subscriber)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.lock(ctx, at); err != nil {
		return err
	}
	applied := false
	err = s.do(ctx, "discard", func() error {
		applied = i.records[at].applied
		s.change(func() { i.discard(key, applied) })
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.commit(ctx); err != nil || !applied {
		return err
	}
	return inbox.ErrNoLetter.With("event %s was applied by subscriber %s before", id, subscriber)
}

// discard removes a letter whose event was applied, and discards any other letter.
func (i *Inbox) discard(key letterKey, applied bool) {
	l := i.letters[key]
	if applied {
		delete(i.letters, key)
	} else {
		l.become(inbox.Discarded)
		i.letters[key] = l
		if _, found := i.records[recordKey(key)]; !found && l.Readable() {
			i.records[recordKey(key)] = record{at: time.Now(), sequence: l.sequence}
		}
	}
	i.promoteHead(key.subscriber, l.Key)
}

// CountDead runs as one statement.
func (i *Inbox) CountDead(ctx context.Context, subscriber string) (dead int, err error) {
	err = i.once(ctx, "count the dead", func(*session) error {
		dead = len(i.dead(subscriber))
		return nil
	})
	return dead, err
}

// Subscribers runs as one statement.
func (i *Inbox) Subscribers(ctx context.Context) (names []string, err error) {
	err = i.once(ctx, "subscribers", func(*session) error {
		names = i.names()
		return nil
	})
	return names, err
}
