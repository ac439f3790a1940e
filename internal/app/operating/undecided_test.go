package operating_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (l letters) Subscribers(context.Context) ([]string, error) { return []string{"emails"}, l.fails() }

// TestForSubscriber checks that ForSubscriber fails for a subscriber that does not exist.
func TestForSubscriber(t *testing.T) {
	d := &undecidedStore{events: events(1, func(int) string { return "" })}
	found, err := operating.NewDeadLetters(letters{undecidedStore: d}).ForSubscriber(t.Context(), "emails")
	require.NoError(t, err)
	chosen, err := found.Count(t.Context(), operations.Choice{})
	require.NoError(t, err)
	require.Equal(t, 1, chosen.Events)
	_, err = operating.NewDeadLetters(letters{undecidedStore: d}).ForSubscriber(t.Context(), "email")
	require.ErrorIs(t, err, inbox.ErrNoSubscriber)
	d.failing = []error{errors.ErrUnsupported}
	_, err = operating.NewDeadLetters(letters{undecidedStore: d}).ForSubscriber(t.Context(), "emails")
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// undecidedStore holds the undecided events of a subscriber or of the parking lot. A retry or discard does not remove them.
type undecidedStore struct {
	events  []operations.UndecidedEvent
	failing []error // errors of the next calls, in order
	changed [][]outbox.Position
}

func (d *undecidedStore) fails() error {
	if len(d.failing) == 0 {
		return nil
	}
	err := d.failing[0]
	d.failing = d.failing[1:]
	return err
}

// letters shows the events of a store as dead letters of the subscriber emails.
type letters struct {
	operations.DeadLetterAdmin
	*undecidedStore
}

func (l letters) Undecided(
	_ context.Context, subscriber string, after operations.DeadLetterCursor, limit int,
) ([]operations.UndecidedEvent, operations.DeadLetterCursor, error) {
	if err := l.fails(); err != nil || subscriber != "emails" {
		return nil, after, err
	}
	from := 1 + slices.IndexFunc(l.events, func(u operations.UndecidedEvent) bool { return u.EventID == after.ID })
	page := l.events[from:min(len(l.events), from+limit)]
	if len(page) > 0 {
		after.ID = page[len(page)-1].EventID
	}
	return page, after, nil
}

func (l letters) EachUndecided(_ context.Context, subscriber string, visit func(operations.UndecidedEvent) bool) error {
	if subscriber != "emails" {
		return nil
	}
	return l.each(visit)
}

// each visits the events. The failure that comes next ends the visit half-way.
func (d *undecidedStore) each(visit func(operations.UndecidedEvent) bool) error {
	for i, event := range d.events {
		if i == len(d.events)/2 {
			if err := d.fails(); err != nil {
				return err
			}
		}
		if !visit(event) {
			break
		}
	}
	return nil
}

func (l letters) RetryChosen(_ context.Context, subscriber string, ids []string, choice operations.Choice) (int, error) {
	if err := l.fails(); err != nil || subscriber != "emails" {
		return 0, err
	}
	var chosen []outbox.Position
	for _, event := range l.events {
		if slices.Contains(ids, event.EventID) && choice.Has(event) && event.Position > 0 {
			chosen = append(chosen, event.Position)
		}
	}
	l.changed = append(l.changed, chosen)
	return len(chosen), nil
}

func (l letters) DiscardChosen(ctx context.Context, subscriber string, ids []string, choice operations.Choice) (int, error) {
	return l.RetryChosen(ctx, subscriber, ids, choice)
}

// lot shows the events of a store as parked events.
type lot struct {
	operations.ParkingAdmin
	*undecidedStore
}

func (l lot) Undecided(_ context.Context, after outbox.Key, limit int) ([]operations.UndecidedEvent, error) {
	from := 1 + slices.IndexFunc(l.events, func(u operations.UndecidedEvent) bool { return u.Key == after })
	return l.events[from:min(len(l.events), from+limit)], nil
}

func (l lot) EachUndecided(_ context.Context, visit func(operations.UndecidedEvent) bool) error {
	return l.each(visit)
}

func (l lot) RedriveChosen(_ context.Context, positions []outbox.Position, _ operations.Choice) (int, error) {
	l.changed = append(l.changed, positions)
	return len(positions), nil
}

func (l lot) DiscardChosen(ctx context.Context, positions []outbox.Position, choice operations.Choice) (int, error) {
	return l.RedriveChosen(ctx, positions, choice)
}

var start = time.Date(2026, 11, 29, 16, 0, 0, 0, time.UTC)

func events(n int, reason func(i int) string) (all []operations.UndecidedEvent) {
	for i := range n {
		all = append(all, operations.UndecidedEvent{
			Position: outbox.Position(i + 1), EventID: fmt.Sprint("event ", i+1), Key: outbox.Key{Type: "thing", ID: fmt.Sprint(i + 1)},
			Type: fmt.Sprintf("type %d", i%3), Reason: reason(i), First: start.Add(time.Duration(n-i) * time.Second),
			Last: start.Add(time.Duration(i) * time.Minute), EventsBehind: i % 2,
		})
	}
	return all
}

// TestGroups checks that events are counted by the fingerprints of their reasons, the largest group first.
func TestGroups(t *testing.T) {
	all := events(7, func(i int) string {
		if i < 2 {
			return "no stock"
		}
		return fmt.Sprintf("customer %d is unknown", i)
	})
	all[6].Type, all[6].Position = "", 0
	d := &undecidedStore{events: all}
	for name, undecided := range map[string]operating.Undecided{
		"letters":     operating.UndecidedDeadLetters(letters{undecidedStore: d}, "emails"),
		"parking lot": operating.UndecidedParked(lot{undecidedStore: d}),
	} {
		groups, err := undecided.Groups(t.Context())
		require.NoError(t, err)
		require.Equal(t, operations.Groups{All: 2, Events: 7, List: []operations.Group{
			{
				Fingerprint: fault.NewFingerprint("customer 0 is unknown"), Events: 5, EventsBehind: 2, First: all[6].First, Last: all[6].Last,
				Types: []string{"type 0", "type 1", "type 2"}, Example: all[6],
			},
			{
				Fingerprint: fault.NewFingerprint("no stock"), Events: 2, EventsBehind: 1, First: all[1].First, Last: all[1].Last,
				Types: []string{"type 0", "type 1"}, Example: all[1],
			},
		}}, groups, name)
		chosen, err := undecided.Count(t.Context(), operations.Choice{Group: fault.NewFingerprint("customer 0 is unknown").ID})
		require.NoError(t, err)
		require.Equal(t, operations.ChoiceCount{Events: 5, Unreadable: 1, EventsBehind: 2}, chosen, name)
	}
	none, err := operating.UndecidedDeadLetters(letters{undecidedStore: &undecidedStore{}}, "emails").Groups(t.Context())
	require.NoError(t, err)
	require.Zero(t, none)
}

// TestGroupsAreBounded checks that Groups reads and lists no more events and groups than the documents say.
func TestGroupsAreBounded(t *testing.T) {
	word := func(i int) string {
		return string([]byte{'a' + byte(i/26/26%26), 'a' + byte(i/26%26), 'a' + byte(i%26)})
	}
	d := &undecidedStore{events: events(operations.MaxGroupedEvents+1, word)}
	groups, err := operating.UndecidedParked(lot{undecidedStore: d}).Groups(t.Context())
	require.NoError(t, err)
	require.True(t, groups.More)
	require.Equal(t, operations.MaxGroupedEvents, groups.Events)
	require.Equal(t, 26*26*26, groups.All)
	require.Len(t, groups.List, operations.MaxGroups)
}

// TestChangesComeInChunks checks that no transaction changes more than some hundred events, and that all chosen events are changed.
func TestChangesComeInChunks(t *testing.T) {
	all := events(1201, func(i int) string { return "no stock" })
	d := &undecidedStore{events: all}
	retried, err := operating.UndecidedDeadLetters(letters{undecidedStore: d}, "emails").Retry(t.Context(), operations.Choice{Type: "type 1"})
	require.NoError(t, err)
	require.Equal(t, 400, retried)
	var changed []outbox.Position
	for _, chunk := range d.changed {
		require.LessOrEqual(t, len(chunk), 500)
		changed = append(changed, chunk...)
	}
	require.Len(t, d.changed, 3)
	require.Len(t, changed, 400)

	d.changed = nil
	discarded, err := operating.UndecidedParked(lot{undecidedStore: d}).Discard(t.Context(), operations.Choice{})
	require.NoError(t, err)
	require.Equal(t, 1201, discarded)
	require.Len(t, d.changed, 3)
}

// TestOutagesAreSatOut checks that a retry or discard goes on after a short outage. In a long outage it fails, and reports how many events
// it changed before.
func TestOutagesAreSatOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, wrong := fault.New(fault.Unavailable, "away", "away"), errors.New("wrong")
		d := &undecidedStore{events: events(501, func(int) string { return "" }), failing: []error{away, nil, away, away}}
		undecided := operating.UndecidedDeadLetters(letters{undecidedStore: d}, "emails")
		retried, err := undecided.Retry(t.Context(), operations.Choice{})
		require.NoError(t, err)
		require.Equal(t, 501, retried)

		d.failing = []error{nil, nil, nil, away, away, away, away, away, nil}
		retried, err = undecided.Discard(t.Context(), operations.Choice{})
		require.ErrorIs(t, err, away)
		require.ErrorContains(t, err, "500 events were changed before this failure")
		require.Equal(t, 500, retried)

		d.failing = []error{wrong}
		_, err = undecided.Count(t.Context(), operations.Choice{})
		require.ErrorIs(t, err, wrong)
		d.failing = []error{away, away}
		chosen, err := undecided.Count(t.Context(), operations.Choice{})
		require.NoError(t, err)
		require.Equal(t, 501, chosen.Events, "each try counts from the beginning")
		d.failing = []error{away}
		groups, err := undecided.Groups(t.Context())
		require.NoError(t, err)
		require.Equal(t, 501, groups.Events)
		d.failing = []error{away, away}
		ended, end := context.WithTimeout(t.Context(), time.Millisecond)
		defer end()
		_, err = undecided.Groups(ended)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
