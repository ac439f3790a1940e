package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.DeadLetters = (*Inbox)(nil)

// redelivery is the transaction that tries the letters of one aggregate.
type redelivery struct {
	effects
	inbox.Redelivery
	letters   []letter
	applied   map[string]bool   // events that were applied before, by id
	sequences map[string]uint64 // where the events were read last
	done      inbox.Redelivered
}

// Redeliver locks the first letter, and then the letters behind it. It writes the records after the effects.
func (i *Inbox) Redeliver(
	ctx context.Context, subscriber string, r inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Redelivered, bool, error) {
	s, err := i.open(ctx)
	if err != nil {
		return inbox.Redelivered{}, false, err
	}
	work := &redelivery{
		effects: newEffects(s, subscriber, handler, judge), Redelivery: r,
		applied: make(map[string]bool), sequences: make(map[string]uint64),
	}
	defer work.close()
	works, err := work.shareSubscriber(ctx)
	if err != nil || !works {
		return inbox.Redelivered{}, false, err
	}
	found, err := work.choose(ctx)
	if err != nil || !found {
		return inbox.Redelivered{}, false, err
	}
	for _, step := range []func(context.Context) error{
		work.follow, work.known, work.handleAll, work.flush, work.record, work.commit,
	} {
		if err := step(ctx); err != nil {
			return inbox.Redelivered{}, false, err
		}
	}
	work.done.Emitted = work.work.emitted
	return work.done, len(work.letters) > 0, nil
}

// shareSubscriber takes a share of the subscriber's row, so that an operator who pauses or forgets the subscriber waits. It reports whether the
// subscriber works, and has this handler.
func (r *redelivery) shareSubscriber(ctx context.Context) (works bool, err error) {
	if err := r.share(ctx, subscriberKey(r.subscriber)); err != nil {
		return false, err
	}
	err = r.do(ctx, "look at what is decided", func() error {
		row := r.inbox.subscribers[r.subscriber]
		works = !row.Paused && row.Forgotten.IsZero() && !row.yieldsUntil.After(time.Now()) && (row.Handler == "" || row.Handler == r.work.handler)
		return nil
	})
	return works, err
}

// choose locks the first letter of an aggregate. If several of these letters are due and not locked, choose takes the letter that has been
// due for the longest time.
func (r *redelivery) choose(ctx context.Context) (found bool, err error) {
	err = r.do(ctx, "choose a letter", func() error {
		var due []letterKey
		for key, l := range r.inbox.letters {
			if head, _ := r.inbox.head(key.subscriber, l.Key); key.subscriber == r.subscriber && r.waited(l) && head == key {
				due = append(due, key)
			}
			if key.subscriber == r.subscriber && r.inbox.state(key) == inbox.Retrying && !l.due.After(time.Now()) {
				due = append(due, key)
			}
		}
		slices.SortFunc(due, func(a, b letterKey) int {
			return cmp.Or(r.inbox.letters[a].due.Compare(r.inbox.letters[b].due), cmp.Compare(a.id, b.id))
		})
		for _, key := range due {
			if found = r.locks(key); found {
				r.letters = []letter{r.inbox.letters[key]}
				return nil
			}
		}
		return nil
	})
	return found, err
}

// waited reports whether a letter has waited for a handler that the caller has.
func (r *redelivery) waited(l letter) bool {
	return l.State == inbox.Dead && l.NoHandler && slices.Contains(r.Types, l.Type)
}

// follow locks the letters behind the first letter, in order. It appends the letters before the next dead letter to redelivery.letters.
func (r *redelivery) follow(ctx context.Context) error {
	head := r.letters[0]
	var behind []letterKey
	err := r.do(ctx, "read followers", func() error {
		for key, l := range r.inbox.letters {
			if key.subscriber == r.subscriber && l.Key == head.Key && l.Position > head.Position && l.pending() {
				behind = append(behind, key)
			}
		}
		slices.SortFunc(behind, func(a, b letterKey) int {
			return cmp.Compare(r.inbox.letters[a].Position, r.inbox.letters[b].Position)
		})
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range behind[:min(len(behind), r.Limit-1)] {
		if err := r.lock(ctx, key); err != nil {
			return err
		}
	}
	return r.do(ctx, "lock followers", func() error {
		for _, key := range behind[:min(len(behind), r.Limit-1)] {
			l, found := r.inbox.letters[key]
			if found && l.State == inbox.Dead && !r.waited(l) {
				return nil
			}
			if found && l.pending() {
				r.letters = append(r.letters, l)
			}
		}
		return nil
	})
}

// known reads which of the events were applied.
func (r *redelivery) known(ctx context.Context) error {
	return r.do(ctx, "read records", func() error {
		for _, l := range r.letters {
			r.sequences[l.ID] = l.sequence
			r.applied[l.ID] = r.inbox.records[recordKey{r.subscriber, l.ID}].applied
		}
		return nil
	})
}

// handleAll handles the letters until one of them fails.
func (r *redelivery) handleAll(ctx context.Context) error {
	for n, l := range r.letters {
		failed, err := r.try(ctx, n, l)
		if err != nil {
			return err
		}
		if failed != nil {
			r.done.Failed = &failed.Letter
			r.change(func() { r.inbox.letters[letterKey{r.subscriber, l.ID}] = *failed })
			return nil
		}
		r.change(func() {
			delete(r.inbox.letters, letterKey{r.subscriber, l.ID})
			r.inbox.promoteHead(r.subscriber, l.Key)
		})
	}
	return nil
}

// try handles one letter, unless its event was applied.
func (r *redelivery) try(ctx context.Context, n int, l letter) (failed *letter, err error) {
	if r.applied[l.ID] {
		return nil, nil
	}
	if r.Savepoints {
		failed, err = r.attempt(ctx, l)
	} else {
		err = r.apply(ctx, n, l.Entry)
	}
	if err != nil || failed != nil {
		return failed, err
	}
	r.done.Applied = append(r.done.Applied, l.Entry)
	return nil, nil
}

// record writes the records of the events that were applied.
func (r *redelivery) record(ctx context.Context) error {
	for _, entry := range r.done.Applied {
		if err := r.lock(ctx, recordKey{r.subscriber, entry.ID}); err != nil {
			return err
		}
	}
	return r.do(ctx, "record", func() error {
		for _, entry := range r.done.Applied {
			r.change(func() {
				key := recordKey{r.subscriber, entry.ID}
				row := r.inbox.records[key]
				row.applied, row.at, row.sequence = true, time.Now(), max(row.sequence, r.sequences[entry.ID])
				r.inbox.records[key] = row
			})
		}
		return nil
	})
}
