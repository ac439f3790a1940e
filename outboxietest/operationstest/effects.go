package operationstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// EffectStore is an empty database with a log and an inbox.
type EffectStore struct {
	Effects     operations.EffectReader
	Checkpoints inbox.Checkpoints
	UnitOfWork  inbox.UnitOfWork
	Letters     operations.DeadLetterAdmin
	Operator    inbox.Operator
	// AppendToLog commits events at their positions.
	AppendToLog func(t *testing.T, events ...outbox.Entry)
}

// TestEffectReader checks operations.EffectReader. Each call of open returns a new store.
func TestEffectReader(t *testing.T, open func(t *testing.T) EffectStore) {
	check := contracttest.Runner(t, open)
	check("an applied event has its time and its sequence", effectsApplied)
	check("an event that is not reached has no effect", effectsNotReached)
	check("a dead event has its error, and those behind it wait", effectsDead)
	check("a discarded event is shown as discarded", effectsDiscarded)
	check("an event whose type the subscriber does not want", effectsNotWanted)
	check("an event that the log has purged", effectsPurged)
	check("each subscriber has its own effect", effectsOfSeveral)
	check("a subscriber that was forgotten or has not begun is absent", effectsForgotten)
	check("what cannot be an event is left out", effectsOddIDs)
}

const effectStream = "2026-11-29T10:00:00.123456789Z"

// newEvents returns events of the aggregate a at the positions and sequences 1, 2, and so on.
func newEvents(n int) []inbox.Event {
	events := make([]inbox.Event, n)
	for i := range events {
		at := int64(i) + 1
		events[i] = inbox.Event{Sequence: uint64(at), Suspect: true, Entry: outbox.Entry{
			Message: relaytest.NewMessage("a", at), Position: outbox.Position(at), RecordedAt: time.Now().Truncate(time.Microsecond).UTC(),
		}}
	}
	return events
}

// record appends events to the log.
func (s EffectStore) record(t *testing.T, events ...inbox.Event) {
	t.Helper()
	for _, event := range events {
		s.AppendToLog(t, event.Entry)
	}
}

// begin begins a subscriber that wants types.
func (s EffectStore) begin(t *testing.T, subscriber string, types ...string) {
	t.Helper()
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 2, effectStream, inbox.StreamPosition{}))
	require.NoError(t, s.Checkpoints.Subscribe(t.Context(), subscriber, "handler", types))
}

// apply lets the first lane of a subscriber handle events. The handler fails with failure.
func (s EffectStore) apply(t *testing.T, subscriber string, failure error, events ...inbox.Event) {
	t.Helper()
	view, err := s.Checkpoints.Heartbeat(t.Context(), subscriber, "copy")
	require.NoError(t, err)
	batch := inbox.Batch{From: view.Lanes[0], To: inbox.StreamPosition{Sequence: events[len(events)-1].Sequence, StoredAt: time.Now()}, Events: events}
	dead := func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		return inbox.Failure{Cause: err, Limit: 1, Permanent: true}, nil
	}
	_, err = s.UnitOfWork.Apply(t.Context(), subscriber, batch, failing{failure}, dead)
	require.NoError(t, err)
}

// failing is a handler that fails with an error, or succeeds if there is none.
type failing struct{ err error }

// Name returns the name of the handler.
func (failing) Name() string { return "handler" }

// Types returns none: the suite passes the events that it wants.
func (failing) Types() []string { return nil }

// External returns false.
func (failing) External() bool { return false }

// Handle fails with the error.
func (f failing) Handle(context.Context, inbox.Tx, outbox.Entry) error { return f.err }

// Applied does nothing.
func (failing) Applied(context.Context, outbox.Entry) {}

// of returns the effects of events.
func (s EffectStore) of(t *testing.T, events ...inbox.Event) []operations.Effect {
	t.Helper()
	var ids []string
	for _, event := range events {
		ids = append(ids, event.ID)
	}
	found, err := s.Effects.Effects(t.Context(), ids)
	require.NoError(t, err)
	return found
}

func effectsApplied(t *testing.T, s EffectStore) {
	events := newEvents(2)
	s.record(t, events...)
	s.begin(t, "billing's ?0", events[0].Type)
	s.apply(t, "billing's ?0", nil, events...)
	found := s.of(t, events[1], events[0])
	require.Len(t, found, 2)
	for n, effect := range found {
		require.WithinDuration(t, time.Now(), effect.AppliedAt, time.Minute)
		effect.AppliedAt = time.Time{}
		event := events[1-n]
		require.Equal(t, operations.Effect{Subscriber: "billing's ?0", EventID: event.ID, Sequence: event.Sequence, Wanted: true}, effect)
	}
}

func effectsNotReached(t *testing.T, s EffectStore) {
	event := newEvents(1)[0]
	require.Empty(t, s.of(t, event), "there is no subscriber")
	s.record(t, event)
	s.begin(t, "billing", event.Type)
	require.Equal(t, []operations.Effect{{Subscriber: "billing", EventID: event.ID, Wanted: true}}, s.of(t, event))
	require.Empty(t, s.of(t))
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := s.Effects.Effects(ended, []string{event.ID})
	require.ErrorIs(t, err, context.Canceled)
}

func effectsDead(t *testing.T, s EffectStore) {
	events := newEvents(2)
	s.record(t, events...)
	s.begin(t, "billing", events[0].Type)
	s.apply(t, "billing", errors.New("it's out of <stock>: ?0"), events...)
	require.Equal(t, []operations.Effect{
		{Subscriber: "billing", EventID: events[0].ID, Sequence: 1, Letter: inbox.Dead, Error: "it's out of <stock>: ?0", Wanted: true},
		{Subscriber: "billing", EventID: events[1].ID, Sequence: 2, Letter: inbox.Waiting, Wanted: true},
	}, s.of(t, events...))
	require.NoError(t, s.Letters.Retry(t.Context(), "billing", events[0].ID))
	require.Equal(t, inbox.Retrying, s.of(t, events...)[0].Letter)
}

func effectsDiscarded(t *testing.T, s EffectStore) {
	event := newEvents(1)[0]
	s.record(t, event)
	s.begin(t, "billing", event.Type)
	s.apply(t, "billing", errors.New("no stock"), event)
	require.NoError(t, s.Letters.Discard(t.Context(), "billing", event.ID))
	found := s.of(t, event)
	require.Equal(t, inbox.Discarded, found[0].Letter)
	require.Zero(t, found[0].AppliedAt)
}

func effectsNotWanted(t *testing.T, s EffectStore) {
	event := newEvents(1)[0]
	s.record(t, event)
	s.begin(t, "billing", "another.type.v1")
	require.Equal(t, []operations.Effect{{Subscriber: "billing", EventID: event.ID}}, s.of(t, event))
}

// effectsPurged checks events that the log does not have. It cannot name their types, so the records decide what was wanted.
func effectsPurged(t *testing.T, s EffectStore) {
	events := newEvents(2)
	s.begin(t, "billing", events[0].Type)
	s.apply(t, "billing", nil, events[0])
	found := s.of(t, events...)
	require.True(t, found[0].Wanted)
	require.False(t, found[0].AppliedAt.IsZero())
	require.Equal(t, operations.Effect{Subscriber: "billing", EventID: events[1].ID}, found[1])
}

func effectsOfSeveral(t *testing.T, s EffectStore) {
	events := newEvents(2)
	s.record(t, events...)
	for _, name := range []string{"b", "C", "a"} {
		s.begin(t, name, events[0].Type)
	}
	s.apply(t, "a", nil, events...)
	s.apply(t, "b", errors.New("no stock"), events[0])
	var shown []string
	for _, effect := range s.of(t, events...) {
		state := "waits"
		switch {
		case effect.Letter != "":
			state = string(effect.Letter)
		case !effect.AppliedAt.IsZero():
			state = "applied"
		}
		n := 0
		if effect.EventID == events[1].ID {
			n = 1
		}
		shown = append(shown, effect.Subscriber+" "+string(rune('0'+n))+" "+state)
	}
	require.Equal(t, []string{"C 0 waits", "C 1 waits", "a 0 applied", "a 1 applied", "b 0 dead", "b 1 waits"}, shown)
}

func effectsForgotten(t *testing.T, s EffectStore) {
	event := newEvents(1)[0]
	s.record(t, event)
	s.begin(t, "billing", event.Type)
	s.begin(t, "shipping", event.Type)
	s.apply(t, "shipping", nil, event)
	require.NoError(t, s.Operator.Forget(t.Context(), "shipping"))
	require.NoError(t, s.Checkpoints.Subscribe(t.Context(), "not begun", "handler", []string{event.Type}))
	require.Equal(t, []operations.Effect{{Subscriber: "billing", EventID: event.ID, Wanted: true}}, s.of(t, event))
}

func effectsOddIDs(t *testing.T, s EffectStore) {
	event := newEvents(1)[0]
	s.record(t, event)
	s.begin(t, "billing", event.Type)
	found, err := s.Effects.Effects(t.Context(), []string{"", "\x00", "no UUID", event.ID, event.ID, "{" + event.ID + "}", "urn:uuid:" + event.ID})
	require.NoError(t, err)
	require.Equal(t, []operations.Effect{{Subscriber: "billing", EventID: event.ID, Wanted: true}}, found)
}
