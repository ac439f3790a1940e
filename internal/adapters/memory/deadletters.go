package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type letter struct {
	inbox.Letter
	due, changed time.Time
}

var (
	_ inbox.DeadLetters = (*Inbox)(nil)
	_ inbox.LetterDesk  = (*Inbox)(nil)
	_ inbox.Sweeper     = (*Inbox)(nil)
)

func (l *letter) become(state inbox.State) {
	l.State, l.due, l.changed = state, time.Now(), time.Now()
	if state == inbox.Dead {
		l.DeadAt = time.Now()
	}
}

// pending reports whether later events of the aggregate wait for the letter.
func (l *letter) pending() bool {
	return l.State == inbox.Dead || l.State == inbox.Waiting || l.State == inbox.Retrying
}

// before returns the letter that holds the event, or nil.
func (i *Inbox) before(subscriber string, entry outbox.Entry) *letter {
	head := i.head(subscriber, entry.Key)
	if head == nil || head.Position >= entry.Position {
		return nil
	}
	return head
}

// head is the first pending letter of an aggregate.
func (i *Inbox) head(subscriber string, aggregate outbox.Key) *letter {
	var head *letter
	for key, l := range i.letters {
		if key.subscriber == subscriber && l.Readable() && l.Key == aggregate && l.pending() &&
			(head == nil || l.Position < head.Position) {
			head = l
		}
	}
	return head
}

// end removes the letter of an event that was applied.
func (i *Inbox) end(key eventKey) {
	if ended, found := i.letters[key]; found {
		delete(i.letters, key)
		i.release(key.subscriber, ended.Key)
	}
}

// release gives the letter its turn that waits at the head of an aggregate.
func (i *Inbox) release(subscriber string, aggregate outbox.Key) {
	if next := i.head(subscriber, aggregate); next != nil && next.State == inbox.Waiting {
		next.become(inbox.Retrying)
		next.Attempts = 0
	}
}

// decide changes the letter of an event that nobody works on, and makes it first if there is none. What was applied gets
// no letter. wait is until the letter is due, if it is retried.
func (i *Inbox) decide(
	ctx context.Context, subscriber string, entry outbox.Entry, wait time.Duration, change func(l inbox.Letter, held bool) inbox.Letter,
) (inbox.Letter, error) {
	key := eventKey{subscriber, entry.ID}
	open, done, err := i.claim(ctx, key)
	if err != nil {
		return inbox.Letter{}, err
	}
	defer done()
	decided := inbox.Letter{Entry: entry, State: inbox.Applied}
	err = open.commit(ctx, func() error {
		if i.taken[key].applied {
			return nil
		}
		l, found := i.letters[key]
		if !found {
			l = &letter{Letter: inbox.Letter{Entry: entry, State: inbox.Failing, FirstFailedAt: time.Now()}}
			i.letters[key] = l
		}
		state := l.State
		l.Letter = change(l.Letter, i.before(subscriber, entry) != nil)
		if l.State != state {
			l.become(l.State)
		}
		l.due = time.Now().Add(wait)
		if l.State != inbox.Failing {
			i.taken[key] = taken{at: time.Now()}
		}
		decided = l.Letter
		return nil
	})
	return decided, err
}

// Fail implements the port.
func (i *Inbox) Fail(ctx context.Context, subscriber string, entry outbox.Entry, failure inbox.Failure) (inbox.Letter, error) {
	return i.decide(ctx, subscriber, entry, failure.Wait, func(l inbox.Letter, held bool) inbox.Letter {
		return l.Failed(failure, held)
	})
}

// SetAside implements the port.
func (i *Inbox) SetAside(ctx context.Context, subscriber string, entry outbox.Entry) (inbox.Letter, error) {
	return i.decide(ctx, subscriber, entry, 0, inbox.Letter.Aside)
}

// Reject implements the port.
func (i *Inbox) Reject(ctx context.Context, subscriber string, message outbox.Message, cause error) error {
	_, err := i.decide(ctx, subscriber, outbox.Entry{Message: message}, 0, func(l inbox.Letter, _ bool) inbox.Letter {
		return l.Rejected(cause)
	})
	return err
}

// Due implements the port.
func (i *Inbox) Due(ctx context.Context, subscriber string, lease time.Duration) (inbox.Letter, bool, error) {
	open, err := i.begin(ctx)
	if err != nil {
		return inbox.Letter{}, false, err
	}
	var next *letter
	err = open.commit(ctx, func() error {
		for key, l := range i.letters {
			if key.subscriber == subscriber && l.State == inbox.Retrying && !l.due.After(time.Now()) &&
				(next == nil || l.due.Before(next.due)) {
				next = l
			}
		}
		if next != nil {
			next.due = time.Now().Add(lease)
		}
		return nil
	})
	if err != nil || next == nil {
		return inbox.Letter{}, false, err
	}
	return next.Letter, true, nil
}

// Letters implements the port.
func (i *Inbox) Letters(ctx context.Context, subscriber string, limit int) ([]inbox.Letter, error) {
	open, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	var found []inbox.Letter
	err = open.commit(ctx, func() error {
		for key, l := range i.letters {
			if key.subscriber == subscriber && l.State != inbox.Waiting && l.State != inbox.Discarded {
				found = append(found, i.counted(subscriber, l))
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b inbox.Letter) int { return cmp.Compare(a.Position, b.Position) })
	return found[:min(limit, len(found))], err
}

// counted is a letter with what waits behind it.
func (i *Inbox) counted(subscriber string, l *letter) inbox.Letter {
	counted := l.Letter
	if !l.Readable() {
		return counted
	}
	for key, other := range i.letters {
		if key.subscriber == subscriber && other.State == inbox.Waiting && other.Key == l.Key && other.Position > l.Position {
			counted.Behind++
		}
	}
	return counted
}

// Letter implements the port.
func (i *Inbox) Letter(ctx context.Context, subscriber, id string) (found inbox.Letter, err error) {
	err = i.mend(ctx, subscriber, id, func(l *letter) error {
		found = i.counted(subscriber, l)
		return nil
	})
	return found, err
}

// mend changes a letter that exists and that nobody works on.
func (i *Inbox) mend(ctx context.Context, subscriber, id string, change func(l *letter) error) error {
	key := eventKey{subscriber, id}
	open, done, err := i.claim(ctx, key)
	if err != nil {
		return err
	}
	defer done()
	return open.commit(ctx, func() error {
		if l, found := i.letters[key]; found {
			return change(l)
		}
		return inbox.ErrNoLetter
	})
}

// Retry implements the port.
func (i *Inbox) Retry(ctx context.Context, subscriber, id string) error {
	return i.mend(ctx, subscriber, id, func(l *letter) error {
		switch {
		case l.State == inbox.Discarded:
			return inbox.ErrNoLetter
		case l.State != inbox.Dead || !l.Readable():
			return inbox.ErrNotDead
		}
		l.become(inbox.Retrying)
		l.Attempts = 0
		return nil
	})
}

// RetryAll implements the port.
func (i *Inbox) RetryAll(ctx context.Context, subscriber string) (int, error) {
	open, err := i.begin(ctx)
	if err != nil {
		return 0, err
	}
	retried := 0
	err = open.commit(ctx, func() error {
		for key, l := range i.letters {
			if key.subscriber == subscriber && l.State == inbox.Dead && l.Readable() {
				l.become(inbox.Retrying)
				l.Attempts = 0
				retried++
			}
		}
		return nil
	})
	return retried, err
}

// Discard implements the port.
func (i *Inbox) Discard(ctx context.Context, subscriber, id string) error {
	return i.mend(ctx, subscriber, id, func(l *letter) error {
		if l.State == inbox.Discarded {
			return inbox.ErrNoLetter
		}
		l.become(inbox.Discarded)
		i.taken[eventKey{subscriber, id}] = taken{at: time.Now()}
		if l.Readable() {
			i.release(subscriber, l.Key)
		}
		return nil
	})
}

// CountDead implements the port.
func (i *Inbox) CountDead(ctx context.Context, subscriber string) (int, error) {
	open, err := i.begin(ctx)
	if err != nil {
		return 0, err
	}
	dead := 0
	err = open.commit(ctx, func() error {
		for key, l := range i.letters {
			if key.subscriber == subscriber && l.State == inbox.Dead {
				dead++
			}
		}
		return nil
	})
	return dead, err
}

// Subscribers implements the port.
func (i *Inbox) Subscribers(ctx context.Context) ([]string, error) {
	open, err := i.begin(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	err = open.commit(ctx, func() error {
		for key := range i.taken {
			names = append(names, key.subscriber)
		}
		for key := range i.letters {
			names = append(names, key.subscriber)
		}
		return nil
	})
	slices.Sort(names)
	return slices.Compact(names), err
}
