package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type letterKey struct{ subscriber, id string }

// letter is a row of the dead letters.
type letter struct {
	inbox.Letter
	due, changed time.Time
	sequence     uint64 // where the event was read last
}

// newLetterOf returns the letter of an event that has not failed yet.
func newLetterOf(event inbox.Event) letter {
	return letter{Letter: inbox.Letter{Entry: event.Entry, FirstFailedAt: time.Now()}, sequence: event.Sequence}
}

// newLetter returns the letter of an event after its first failure.
func newLetter(event inbox.Event, failure inbox.Failure) letter {
	return *newLetterOf(event).failed(failure)
}

// heldLetter returns the letter of an event that waits behind another one.
func heldLetter(event inbox.Event) letter {
	l := newLetterOf(event)
	l.become(inbox.Retrying)
	return l
}

// failed returns the letter after a failure.
func (l letter) failed(failure inbox.Failure) *letter {
	l.Letter = l.Failed(failure)
	l.become(l.State)
	l.due = time.Now().Add(failure.Wait)
	return &l
}

// become gives the letter a state.
func (l *letter) become(state inbox.LetterState) {
	l.State, l.due, l.changed = state, time.Now(), time.Now()
	l.NoHandler = l.NoHandler && state == inbox.Dead
	if state == inbox.Dead {
		l.DeadAt = time.Now()
	}
}

// pending reports whether later events of the aggregate wait for the letter.
func (l letter) pending() bool {
	return l.State == inbox.Dead || l.tried()
}

// tried reports whether the subscriber tries the letter by itself, now or when its turn comes.
func (l letter) tried() bool {
	return l.State == inbox.Retrying || l.State == inbox.Waiting
}

// head returns the key of the first pending letter of an aggregate.
func (i *Inbox) head(subscriber string, aggregate outbox.Key) (head letterKey, found bool) {
	for key, l := range i.letters {
		if key.subscriber == subscriber && l.Readable() && l.Key == aggregate && l.pending() &&
			(!found || l.Position < i.letters[head].Position) {
			head, found = key, true
		}
	}
	return head, found
}

// state returns the state of a letter. Whether a letter is Retrying or Waiting follows from the other letters of its aggregate.
func (i *Inbox) state(key letterKey) inbox.LetterState {
	l := i.letters[key]
	if !l.tried() {
		return l.State
	}
	if head, _ := i.head(key.subscriber, l.Key); head != key {
		return inbox.Waiting
	}
	return inbox.Retrying
}

// shown returns a letter as operators see it.
func (i *Inbox) shown(key letterKey) inbox.Letter {
	shown := i.letters[key].Letter
	shown.State = i.state(key)
	for other, l := range i.letters {
		if other.subscriber == key.subscriber && i.letters[key].pending() && shown.Readable() && l.Key == shown.Key && l.Position > shown.Position &&
			i.state(other) == inbox.Waiting {
			shown.Behind++
		}
	}
	return shown
}

// promoteHead makes the first pending letter of an aggregate due now, if the letter was due earlier. Callers use promoteHead after the
// letter in front has ended.
func (i *Inbox) promoteHead(subscriber string, aggregate outbox.Key) {
	key, found := i.head(subscriber, aggregate)
	if next := i.letters[key]; found && next.tried() && next.due.Before(time.Now()) {
		next.due = time.Now()
		i.letters[key] = next
	}
}

// lockLetter locks a letter and changes it, or fails with inbox.ErrNoLetter.
func (s *session) lockLetter(ctx context.Context, key letterKey, step string, change func(l letter) error) error {
	if err := s.lock(ctx, key); err != nil {
		return err
	}
	return s.do(ctx, step, func() error {
		l, found := s.inbox.letters[key]
		if !found {
			return inbox.ErrNoLetter.With("subscriber %s has no dead letter %s", key.subscriber, key.id)
		}
		return change(l)
	})
}
