// Package inboxtest holds the contract suites of the ports in package inbox, one for each port. The name of each test says what the port
// promises. The tests of an adapter call the suites of the ports that the adapter implements, with a function that opens an empty store:
//
//	func TestCheckpoints(t *testing.T) {
//		inboxtest.TestCheckpoints(t, func(t *testing.T) inboxtest.Store { return newStore(t) })
//	}
//
// Read TestCheckpoints, TestUnitOfWork, TestDeadLetters and TestStream first. The tests of a suite run in a fixed order, the plain case first.
package inboxtest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// Sum is what the handlers of one subscriber added up under one key.
type Sum struct {
	Amount string // decimal; empty when there is nothing
	Count  int64
}

// Store is the database of subscribers under test. It is empty, and serves at least 16 transactions at once.
type Store struct {
	relaytest.Connection
	Checkpoints inbox.Checkpoints
	UnitOfWork  inbox.UnitOfWork
	Letters     operations.DeadLetterAdmin
	// Add is the effect of the suites' handlers: it adds amount to the sum of key, for the subscriber of tx and in the transaction of tx. The
	// store collects several calls in one write at the end of the transaction. A key is a UUID. The write of any other key fails.
	Add func(ctx context.Context, tx inbox.Tx, key string, amount int64) error
	// WasApplied returns the ids whose events the subscriber applied, in the order of ids.
	WasApplied func(t *testing.T, subscriber string, ids ...string) []string
	// Sum returns the committed sum.
	Sum func(t *testing.T, subscriber, key string) Sum
	// FailNextCommit makes the next commit of a transaction that applies events fail.
	FailNextCommit func(t *testing.T)
}

const (
	subscriber = "billing's ?0"
	stream     = "2026-11-29T10:00:00.123456789Z"
	// handlerName is the name of the suites' handlers.
	handlerName   = "handler's ?0"
	unwritableKey = "not a UUID" // a key whose sum no store can write
	amount        = 10050        // what the suites' handlers add for each event

	waitLimit = 30 * time.Second
	soon      = 100 * time.Millisecond
)

var errHandler = errors.New("it's mine: ?0")

// positionAt returns the position of the message at a sequence.
func positionAt(sequence uint64) inbox.StreamPosition {
	return inbox.StreamPosition{Sequence: sequence, StoredAt: time.Unix(1_800_000_000, int64(sequence)*1_000_001).UTC()}
}

func newEvent(sequence uint64, aggregate string) inbox.Event {
	return inbox.Event{Sequence: sequence, Entry: outbox.Entry{
		Message: relaytest.NewMessage(aggregate, int64(sequence)), Position: outbox.Position(sequence),
		RecordedAt: time.Now().Truncate(time.Microsecond).UTC(),
	}}
}

// newEvents returns n events with the sequences after+1, after+2, and so on. The events belong to the aggregates in turn.
func newEvents(after uint64, n int, aggregates ...string) []inbox.Event {
	events := make([]inbox.Event, n)
	for i := range events {
		events[i] = newEvent(after+uint64(i)+1, aggregates[i%len(aggregates)])
	}
	return events
}

func suspect(event inbox.Event) inbox.Event {
	event.Suspect = true
	return event
}

// lane is a lane of a subscriber as one copy knows it.
type lane struct {
	Store
	subscriber string
	at         inbox.Checkpoint
	key        string // under which its handler adds up

	mu      sync.Mutex
	handled []string // ids, in order
	failing map[string]error
	// inHandler is called by the handler before it adds to the sum, and may fail.
	inHandler func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error
}

func newLane(store Store) *lane {
	return &lane{
		Store: store, subscriber: subscriber, key: relaytest.NewMessage("", 1).ID, failing: make(map[string]error),
	}
}

// begin begins the subscriber with one lane.
func (l *lane) begin(t *testing.T) *lane {
	t.Helper()
	require.NoError(t, l.Checkpoints.CreateLanes(t.Context(), l.subscriber, 1, stream, inbox.StreamPosition{}))
	return l.look(t)
}

// look reads the checkpoint of the lane.
func (l *lane) look(t *testing.T) *lane {
	t.Helper()
	view, err := l.Checkpoints.Heartbeat(t.Context(), l.subscriber, "reader")
	require.NoError(t, err)
	require.Greater(t, len(view.Lanes), l.at.Lane)
	l.at = view.Lanes[l.at.Lane]
	return l
}

// copyOf returns another copy of the subscriber that knows the same checkpoint.
func (l *lane) copyOf() *lane {
	other := newLane(l.Store)
	other.subscriber, other.at, other.key = l.subscriber, l.at, l.key
	return other
}

// Name returns handlerName.
func (l *lane) Name() string { return handlerName }

// Types returns none: the suites pass the events that they want.
func (l *lane) Types() []string { return nil }

// External returns false.
func (*lane) External() bool { return false }

// Handle adds to the sum. If failing has an error for the event, Handle then returns that error.
func (l *lane) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	l.mu.Lock()
	l.handled = append(l.handled, entry.ID)
	failure := l.failing[entry.ID]
	l.mu.Unlock()
	if l.inHandler != nil {
		if err := l.inHandler(ctx, tx, entry); err != nil {
			return err
		}
	}
	if err := l.Add(ctx, tx, l.key, amount); err != nil {
		return err
	}
	return failure
}

// Applied does nothing.
func (l *lane) Applied(context.Context, outbox.Entry) {}

// batch returns a batch from the checkpoint to the last of the events.
func (l *lane) batch(events ...inbox.Event) inbox.Batch {
	return inbox.Batch{From: l.at, To: positionAt(events[len(events)-1].Sequence), Events: events}
}

// try applies events. If it succeeds, the lane goes on from the new checkpoint.
func (l *lane) try(ctx context.Context, events ...inbox.Event) (inbox.Outcome, error) {
	outcome, err := l.UnitOfWork.Apply(ctx, l.subscriber, l.batch(events...), l, deadAtFirstFailure)
	if err == nil {
		l.at = outcome.Checkpoint
	}
	return outcome, err
}

// apply applies events, and returns only the error.
func (l *lane) apply(t *testing.T, events ...inbox.Event) error {
	t.Helper()
	_, err := l.try(t.Context(), events...)
	return err
}

// results applies events, and returns the result of each event.
func (l *lane) results(t *testing.T, events ...inbox.Event) []inbox.Result {
	t.Helper()
	outcome, err := l.try(t.Context(), events...)
	require.NoError(t, err)
	return outcome.Results
}

// move moves the lane without an event.
func (l *lane) move(t *testing.T, to inbox.StreamPosition) {
	t.Helper()
	outcome, err := l.UnitOfWork.Apply(t.Context(), l.subscriber, inbox.Batch{From: l.at, To: to}, l, deadAtFirstFailure)
	require.NoError(t, err)
	require.Empty(t, outcome.Results)
	l.at = outcome.Checkpoint
}

// awaitFree waits until the lane is free. A transaction whose context has ended, or whose connection broke, may hold the lane a little longer.
func (l *lane) awaitFree(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		outcome, err := l.UnitOfWork.Apply(t.Context(), l.subscriber, inbox.Batch{From: l.at, To: l.at.StreamPosition}, l, deadAtFirstFailure)
		if err == nil {
			l.at = outcome.Checkpoint
		}
		return err == nil
	}, waitLimit, time.Millisecond)
}

// rewind moves the lane back.
func (l *lane) rewind(t *testing.T, to inbox.StreamPosition) {
	t.Helper()
	moved, err := l.Checkpoints.Rewind(t.Context(), l.subscriber, l.at, l.at.Stream, to)
	require.NoError(t, err)
	l.at = moved
}

// deadAtFirstFailure is a policy: an event is dead after one failure.
func deadAtFirstFailure(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
	return inbox.Failure{Cause: err, Limit: 1}, nil
}

// requireAsKnown requires that the stored checkpoint is the one that the copy knows.
func (l *lane) requireAsKnown(t *testing.T) {
	t.Helper()
	want := l.at
	want.Idle = 0
	require.Equal(t, want, lanesOf(t, l.Store, l.subscriber)[l.at.Lane])
}

// requireCount requires that the effects of n events were added to the sum of the lane's key.
func (l *lane) requireCount(t *testing.T, n int64) {
	t.Helper()
	want := Sum{Count: n}
	if n > 0 {
		want.Amount = strconv.FormatInt(n*amount, 10)
	}
	require.Equal(t, want, l.Sum(t, l.subscriber, l.key))
}

// requireApplied requires that, among events, exactly those in want were applied.
func (l *lane) requireApplied(t *testing.T, events []inbox.Event, want ...inbox.Event) {
	t.Helper()
	require.ElementsMatch(t, idsOf(want), l.WasApplied(t, l.subscriber, idsOf(events)...))
}

func idsOf(events []inbox.Event) []string {
	ids := make([]string, len(events))
	for i, event := range events {
		ids[i] = event.ID
	}
	return ids
}

// repeat returns the same result n times.
func repeat(result inbox.Result, n int) []inbox.Result {
	return slices.Repeat([]inbox.Result{result}, n)
}

// HandleEach begins a subscriber with one lane, and applies new events in batches of the given sizes. handle is the handler of each event.
func HandleEach(t *testing.T, store Store, subscriber string, handle func(ctx context.Context, tx inbox.Tx) error, batches ...int) {
	t.Helper()
	l := newLane(store)
	l.subscriber = subscriber
	l.inHandler = func(ctx context.Context, tx inbox.Tx, _ outbox.Entry) error { return handle(ctx, tx) }
	l.begin(t)
	for _, n := range batches {
		require.Equal(t, repeat(inbox.Applied, n), l.results(t, newEvents(l.at.Sequence, n, "a", "b")...))
	}
}
