package inboxtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// EmitStore is a store whose database also has a log. The log is empty.
type EmitStore struct {
	LetterStore
	Emitter inbox.Emitter
	Log     relay.Log
}

// TestEmitter checks what inbox.Emitter promises: the messages of a handler are in the log if, and only if, its effect is committed. open
// returns an empty store.
func TestEmitter(t *testing.T, open func(t *testing.T) EmitStore) {
	check := contracttest.Runner(t, func(t *testing.T) *emission {
		store := open(t)
		e := &emission{EmitStore: store, lane: newLane(store.Store)}
		e.inHandler = e.emit
		e.begin(t)
		return e
	})
	check("what is emitted comes into the log with the effect", emitOrdered)
	check("the transaction that fails emits nothing", emitNothing)
	check("a suspect event that fails emits nothing", emitWithoutSuspects)
	check("a version that is taken fails the write", emitTaken)
	check("another subscriber does not emit the same", emitAgain)
	check("a letter emits when it is applied", emitFromLetter)
	check("a message that cannot be sent is refused", emitInvalid)
	check("a finished or foreign transaction is refused", emitLate)
}

// emission is a lane whose handler emits two events for each event. The first one belongs to an aggregate that is named after the event's
// aggregate, and has the event's version. The second one belongs to an aggregate that is named after the event's id.
type emission struct {
	EmitStore
	*lane
	offset int64 // added to the versions
}

func (e *emission) emit(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	return e.Emitter.Emit(ctx, tx, entry, followers(entry, e.offset)...)
}

// followers returns the messages that follow from an event, without ids.
func followers(entry outbox.Entry, offset int64) []outbox.Message {
	messages := []outbox.Message{relaytest.NewMessage("z-"+entry.Key.ID, entry.Version+offset), relaytest.NewMessage("a-"+entry.ID, 1+offset)}
	for i := range messages {
		messages[i].ID, messages[i].Key.Type = "", "follower"
	}
	return messages
}

// requireLog requires that the log has exactly the followers of these events. The versions of each aggregate must ascend.
func (e *emission) requireLog(t *testing.T, events ...inbox.Event) {
	t.Helper()
	want := make(map[string]outbox.Message)
	for _, event := range events {
		for n, message := range followers(event.Entry, 0) {
			message.ID = inbox.EmittedID(e.Name(), event.Entry, n)
			want[message.ID] = message
		}
	}
	last := make(map[outbox.Key]int64)
	entries := e.entries(t)
	for _, entry := range entries {
		message := want[entry.ID]
		require.Equal(t, message.Key, entry.Key)
		require.Equal(t, message.Version, entry.Version)
		require.Equal(t, message.Payload, entry.Payload)
		require.Greater(t, entry.Version, last[entry.Key])
		last[entry.Key] = entry.Version
	}
	require.Len(t, entries, len(want))
}

// entries reads the log.
func (e *emission) entries(t *testing.T) (all []outbox.Entry) {
	t.Helper()
	var after outbox.Progress
	for {
		page, err := e.Log.After(t.Context(), after, relay.ReadLimit{Count: 1000, Bytes: 1 << 20})
		require.NoError(t, err)
		if len(page.Entries) == 0 {
			return all
		}
		all = append(all, page.Entries...)
		after = all[len(all)-1].Progress()
	}
}

func emitOrdered(t *testing.T, e *emission) {
	events := newEvents(0, 20, "a", "b", "c")
	outcome, err := e.try(t.Context(), events...)
	require.NoError(t, err)
	require.Equal(t, 40, outcome.Emitted)
	e.requireLog(t, events...)
	e.requireCount(t, 20)

	known, fresh := events[19], newEvent(22, "a")
	known.Sequence = 21
	again, err := e.try(t.Context(), known, fresh)
	require.NoError(t, err)
	require.Equal(t, 2, again.Emitted, "not for what was applied before")
	e.requireLog(t, append(events, fresh)...)
}

func emitNothing(t *testing.T, e *emission) {
	events := newEvents(0, 3, "a", "b")
	e.failing[events[2].ID] = errHandler
	require.ErrorIs(t, e.apply(t, events...), errHandler)
	e.requireLog(t)
	delete(e.failing, events[2].ID)
	e.FailNextCommit(t)
	require.Error(t, e.apply(t, events...))
	e.requireLog(t)
	require.NoError(t, e.apply(t, events...))
	e.requireLog(t, events...)
}

func emitWithoutSuspects(t *testing.T, e *emission) {
	events := newEvents(0, 4, "a", "b")
	e.failing[events[1].ID] = errHandler
	outcome, err := e.try(t.Context(), events[0], suspect(events[1]), suspect(events[2]), events[3])
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.Applied, inbox.Held}, outcome.Results)
	require.Equal(t, 4, outcome.Emitted)
	e.requireLog(t, events[0], events[2])
}

func emitTaken(t *testing.T, e *emission) {
	events := newEvents(0, 3, "a", "a", "b")
	events[1].Version = events[0].Version
	require.NoError(t, e.apply(t, events[0]))
	_, err := e.try(t.Context(), events[1], events[2])
	require.ErrorIs(t, err, relay.ErrVersionTaken)
	var collected *inbox.CollectedError
	require.ErrorAs(t, err, &collected)
	outcome, err := e.try(t.Context(), suspect(events[1]), events[2])
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Applied}, outcome.Results)
	require.False(t, inbox.Permanent(relay.ErrVersionTaken), "the next call of the handler may choose another version")
	e.requireLog(t, events[0], events[2])
}

func emitAgain(t *testing.T, e *emission) {
	event := newEvent(1, "a")
	require.NoError(t, e.apply(t, event))
	other := e.copyOf()
	other.subscriber, other.inHandler = "another", e.emit
	other.begin(t)
	require.Error(t, other.apply(t, event), "the versions are taken")
	e.offset = 1
	err := other.apply(t, event)
	require.ErrorIs(t, err, inbox.ErrEmittedBefore)
	require.Equal(t, []inbox.Result{inbox.SetAside}, other.results(t, suspect(event)))
	e.requireLog(t, event)
	other.requireCount(t, 0)
}

func emitFromLetter(t *testing.T, e *emission) {
	events := newEvents(0, 3, "a")
	e.failing[events[0].ID] = errHandler
	require.NoError(t, e.apply(t, suspect(events[0]), events[1], events[2]))
	e.requireLog(t)
	delete(e.failing, events[0].ID)
	_, err := RetryAll(t.Context(), e.Letters, e.subscriber)
	require.NoError(t, err)
	for i, careful := range []bool{false, true} {
		how := inbox.Redelivery{Limit: i + 1, Savepoints: careful}
		done, found, err := e.DeadLetters.Redeliver(t.Context(), e.subscriber, how, e, deadAtFirstFailure)
		require.NoError(t, err)
		require.True(t, found)
		require.Len(t, done.Applied, i+1)
		require.Equal(t, 2*(i+1), done.Emitted)
	}
	e.requireLog(t, events...)
}

// emitInvalid checks that valid messages are refused together with an invalid one, and that the handler may then emit others.
func emitInvalid(t *testing.T, e *emission) {
	event, goesOn, refused := newEvent(1, "a"), false, error(nil)
	e.inHandler = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		messages := followers(entry, 0)
		messages[1].Payload = []byte("no JSON")
		refused = e.Emitter.Emit(ctx, tx, entry, messages...)
		if goesOn {
			return e.emit(ctx, tx, entry)
		}
		return refused
	}
	require.ErrorIs(t, e.apply(t, event), outbox.ErrInvalidMessage)
	e.requireLog(t)
	goesOn = true
	require.NoError(t, e.apply(t, event))
	require.ErrorIs(t, refused, outbox.ErrInvalidMessage)
	e.requireLog(t, event)
}

// foreign is a transaction that belongs to no store.
type foreign struct{}

func (foreign) Subscriber() string { return subscriber }

func emitLate(t *testing.T, e *emission) {
	event := newEvent(1, "a")
	var kept inbox.Tx
	e.inHandler = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		kept = tx
		return e.emit(ctx, tx, entry)
	}
	require.NoError(t, e.apply(t, event))
	require.Error(t, e.Emitter.Emit(t.Context(), kept, newEvent(2, "a").Entry, followers(newEvent(2, "a").Entry, 0)...))
	require.Error(t, e.Emitter.Emit(t.Context(), foreign{}, event.Entry, followers(event.Entry, 0)...))
	e.requireLog(t, event)
}
