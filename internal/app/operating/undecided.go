package operating

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const (
	// undecidedBatch is how many events one read returns, and how many one transaction changes.
	undecidedBatch = 500

	// If the database is not available, a call is tried so many times, with this pause in between.
	tries = 5
	pause = 200 * time.Millisecond
)

var (
	_ operations.UndecidedEventsAdmin = Undecided{}
	_ operations.DeadLetterFinder     = LetterFinder{}
)

// LetterFinder finds the dead letters of subscribers.
type LetterFinder struct{ admin operations.DeadLetterAdmin }

// NewDeadLetters returns LetterFinder.
func NewDeadLetters(admin operations.DeadLetterAdmin) LetterFinder { return LetterFinder{admin} }

// ForSubscriber returns the dead letters of a subscriber. It fails with inbox.ErrNoSubscriber if there is no such subscriber.
func (l LetterFinder) ForSubscriber(ctx context.Context, subscriber string) (operations.UndecidedEventsAdmin, error) {
	known, err := l.admin.Subscribers(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(known, subscriber) {
		return nil, inbox.ErrNoSubscriber.With("no subscriber %q has received an event here", subscriber)
	}
	return UndecidedDeadLetters(l.admin, subscriber), nil
}

// Undecided holds the events that wait for an operator's decision. They are either the dead letters of a subscriber, or parked events.
type Undecided struct {
	visit          visitFunc
	walk           func() pageFunc
	retry, discard changeFunc
}

type (
	visitFunc  func(ctx context.Context, visit func(operations.UndecidedEvent) bool) error
	pageFunc   func(ctx context.Context, limit int) ([]operations.UndecidedEvent, error)
	changeFunc func(ctx context.Context, events []operations.UndecidedEvent, choice operations.Choice) (int, error)
)

// UndecidedDeadLetters returns the dead letters of a subscriber.
func UndecidedDeadLetters(admin operations.DeadLetterAdmin, subscriber string) Undecided {
	asChange := func(do func(context.Context, string, []string, operations.Choice) (int, error)) changeFunc {
		return func(ctx context.Context, events []operations.UndecidedEvent, choice operations.Choice) (int, error) {
			ids := make([]string, len(events))
			for i, event := range events {
				ids[i] = event.EventID
			}
			return do(ctx, subscriber, ids, choice)
		}
	}
	return Undecided{
		visit: func(ctx context.Context, visit func(operations.UndecidedEvent) bool) error {
			return admin.EachUndecided(ctx, subscriber, visit)
		},
		retry: asChange(admin.RetryChosen), discard: asChange(admin.DiscardChosen),
		walk: func() pageFunc {
			var mark operations.DeadLetterCursor
			return func(ctx context.Context, limit int) ([]operations.UndecidedEvent, error) {
				found, next, err := admin.Undecided(ctx, subscriber, mark, limit)
				if err == nil {
					mark = next
				}
				return found, err
			}
		},
	}
}

// UndecidedParked returns the first parked event of each aggregate. Retry redrives this event, and the events that are parked behind it.
func UndecidedParked(parking operations.ParkingAdmin) Undecided {
	asChange := func(do func(context.Context, []outbox.Position, operations.Choice) (int, error)) changeFunc {
		return func(ctx context.Context, events []operations.UndecidedEvent, choice operations.Choice) (int, error) {
			positions := make([]outbox.Position, len(events))
			for i, event := range events {
				positions[i] = event.Position
			}
			return do(ctx, positions, choice)
		}
	}
	return Undecided{
		visit: parking.EachUndecided,
		retry: asChange(parking.RedriveChosen), discard: asChange(parking.DiscardChosen),
		walk: func() pageFunc {
			var after outbox.Key
			return func(ctx context.Context, limit int) ([]operations.UndecidedEvent, error) {
				found, err := parking.Undecided(ctx, after, limit)
				if len(found) > 0 {
					after = found[len(found)-1].Key
				}
				return found, err
			}
		},
	}
}

// Groups reads all undecided events with one statement.
func (u Undecided) Groups(ctx context.Context) (found operations.Groups, err error) {
	err = retryUnavailable(ctx, func() (err error) {
		found, err = u.group(ctx)
		return err
	})
	return found, err
}

func (u Undecided) group(ctx context.Context) (operations.Groups, error) {
	groups := make(map[string]*operations.Group)
	var found operations.Groups
	var prints fault.Fingerprints
	err := u.visit(ctx, func(event operations.UndecidedEvent) bool {
		if found.More = found.Events == operations.MaxGroupedEvents; found.More {
			return false
		}
		found.Events++
		print := prints.Of(event.Reason)
		if groups[print.ID] == nil {
			groups[print.ID] = &operations.Group{Fingerprint: print, First: event.First, Example: event}
		}
		add(groups[print.ID], event)
		return true
	})
	if err != nil {
		return operations.Groups{}, err
	}
	for _, group := range groups {
		found.List = append(found.List, *group)
	}
	slices.SortFunc(found.List, func(a, b operations.Group) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), a.First.Compare(b.First), cmp.Compare(a.ID, b.ID))
	})
	found.All = len(found.List)
	found.List = found.List[:min(found.All, operations.MaxGroups)]
	return found, nil
}

func add(g *operations.Group, event operations.UndecidedEvent) {
	g.Events++
	g.EventsBehind += event.EventsBehind
	if event.First.Before(g.First) {
		g.First, g.Example = event.First, event
	}
	if event.Last.After(g.Last) {
		g.Last = event.Last
	}
	if at, has := slices.BinarySearch(g.Types, event.Type); !has && event.Type != "" && len(g.Types) < operations.MaxGroupTypes {
		g.Types = slices.Insert(g.Types, at, event.Type)
	}
}

// Count reads all undecided events with one statement.
func (u Undecided) Count(ctx context.Context, choice operations.Choice) (chosen operations.ChoiceCount, err error) {
	err = retryUnavailable(ctx, func() error {
		chosen = operations.ChoiceCount{}
		included := choice.Matcher()
		return u.visit(ctx, func(event operations.UndecidedEvent) bool {
			if included(event) {
				chosen.Events++
				chosen.EventsBehind += event.EventsBehind
				if event.Position == 0 {
					chosen.Unreadable++
				}
			}
			return true
		})
	})
	if err != nil {
		return operations.ChoiceCount{}, err
	}
	return chosen, nil
}

// Retry reads all undecided events, and retries the chosen ones.
func (u Undecided) Retry(ctx context.Context, choice operations.Choice) (int, error) {
	return u.change(ctx, choice, u.retry)
}

// Discard reads all undecided events, and discards the chosen ones.
func (u Undecided) Discard(ctx context.Context, choice operations.Choice) (int, error) {
	return u.change(ctx, choice, u.discard)
}

func (u Undecided) change(ctx context.Context, choice operations.Choice, change changeFunc) (changed int, err error) {
	included := choice.Matcher()
	err = u.each(ctx, func(events []operations.UndecidedEvent) error {
		chosen := slices.DeleteFunc(slices.Clone(events), func(event operations.UndecidedEvent) bool { return !included(event) })
		if len(chosen) == 0 {
			return nil
		}
		return retryUnavailable(ctx, func() error {
			n, err := change(ctx, chosen, choice)
			changed += n
			return err
		})
	})
	if err != nil && changed > 0 {
		err = fmt.Errorf("%d events were changed before this failure: %w", changed, err)
	}
	return changed, err
}

// each calls do with each page of undecided events.
func (u Undecided) each(ctx context.Context, do func(events []operations.UndecidedEvent) error) error {
	next := u.walk()
	for {
		var events []operations.UndecidedEvent
		err := retryUnavailable(ctx, func() (err error) {
			events, err = next(ctx, undecidedBatch)
			return err
		})
		if err != nil || len(events) == 0 {
			return err
		}
		if err := do(events); err != nil {
			return err
		}
	}
}

// retryUnavailable calls do again while the database is not available.
func retryUnavailable(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || fault.KindOf(err) != fault.Unavailable || try == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
