package operationstest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// EventLogHarness is an empty log.
type EventLogHarness interface {
	RelayRepairHarness
	EventLog() operations.EventLog
}

// TestEventLog checks operations.EventLog. Each call of open returns a new log, parking lot, cursor and lease.
func TestEventLog(t *testing.T, open func(t *testing.T) EventLogHarness) {
	check := contracttest.Runner(t, func(t *testing.T) *eventLogFixture {
		h := open(t)
		return &eventLogFixture{newFixture(t, h), h.EventLog()}
	})
	check("the newest come first", listOrder)
	check("what matches is listed", listFilter)
	check("each event has its state", listStates)
	check("what is not committed is not listed", listOpen)
	check("what cannot be published is listed", listInvalid)
	check("an event at a position that the relay has passed is misplaced", listMisplaced)
	check("payloads are read only if asked for", listPayloads)
	check("a list is bounded", listAll)
}

// eventLogFixture is a fixture with the event log under test.
type eventLogFixture struct {
	*fixture
	EventLog operations.EventLog
}

// list returns the positions of the listed events.
func list(t *testing.T, log operations.EventLog, filter operations.EventFilter) []outbox.Position {
	t.Helper()
	found, err := log.List(t.Context(), filter)
	require.NoError(t, err)
	var positions []outbox.Position
	for _, item := range found {
		positions = append(positions, item.Position)
	}
	return positions
}

func listOrder(t *testing.T, w *eventLogFixture) {
	require.Empty(t, list(t, w.EventLog, operations.EventFilter{Limit: 10}))
	first := w.append("a", 2)
	all := append(first, w.append("b", 2)...)
	found, err := w.EventLog.List(t.Context(), operations.EventFilter{Limit: 10, Payloads: true})
	require.NoError(t, err)
	require.Len(t, found, 4)
	for i, item := range found {
		want := all[3-i]
		require.WithinDuration(t, want.RecordedAt, item.RecordedAt, 0)
		item.RecordedAt = want.RecordedAt // its zone does not matter
		require.Equal(t, want, item.Entry)
	}
	require.Equal(t, []outbox.Position{all[3].Position, all[2].Position}, list(t, w.EventLog, operations.EventFilter{Limit: 2}))
	require.Empty(t, list(t, w.EventLog, operations.EventFilter{}))
}

func listFilter(t *testing.T, w *eventLogFixture) {
	a, b := w.append("a", 2), w.append("b", 1)
	for name, c := range map[string]struct {
		filter operations.EventFilter
		want   []outbox.Entry
	}{
		"position":     {operations.EventFilter{Position: a[1].Position}, a[1:]},
		"aggregate":    {operations.EventFilter{Aggregate: b[0].Key}, b},
		"another type": {operations.EventFilter{Aggregate: outbox.Key{Type: "other", ID: "b"}}, nil},
		"event type":   {operations.EventFilter{Type: a[0].Type, Aggregate: outbox.Key{ID: "b"}}, b},
		"no such type": {operations.EventFilter{Type: "none"}, nil},
		"since then":   {operations.EventFilter{Since: b[0].RecordedAt}, b},
		"since later":  {operations.EventFilter{Since: b[0].RecordedAt.Add(time.Hour)}, nil},
		"before":       {operations.EventFilter{Before: a[1].Position}, a[:1]},
		"before all":   {operations.EventFilter{Before: a[0].Position}, nil},
		"before of it": {operations.EventFilter{Before: b[0].Position, Aggregate: b[0].Key}, nil},
		"unpublished":  {operations.EventFilter{State: operations.Unpublished, Aggregate: b[0].Key}, b},
		"published":    {operations.EventFilter{State: operations.Published}, nil},
	} {
		c.filter.Limit = 10
		var want []outbox.Position
		for _, entry := range c.want {
			want = append(want, entry.Position)
		}
		require.Equal(t, want, list(t, w.EventLog, c.filter), name)
	}
}

func listStates(t *testing.T, w *eventLogFixture) {
	entries := append(w.append("a", 4), w.append("b", 3)...)
	requireStates := func(want ...operations.ListedEvent) {
		t.Helper()
		found, err := w.EventLog.List(t.Context(), operations.EventFilter{Limit: 10})
		require.NoError(t, err)
		for i, item := range found {
			item.Entry = outbox.Entry{}
			require.Equal(t, want[len(found)-1-i], item)
		}
	}
	waits, sent := operations.ListedEvent{State: operations.Unpublished}, operations.ListedEvent{State: operations.Published}
	requireStates(waits, waits, waits, waits, waits, waits, waits)

	w.saveAt(entries[4].Progress())
	requireStates(sent, sent, sent, sent, sent, waits, waits)

	w.redrive(entries[0], 7)
	redriven := operations.ListedEvent{State: string(relay.Redriven), Reason: "too large", Sequence: 7}
	w.park(entries[2])
	require.NoError(t, w.ParkingAdmin().Discard(t.Context(), entries[2].Position))
	discarded := operations.ListedEvent{State: string(relay.Discarded), Reason: "too large"}
	w.park(entries[5])
	parked := operations.ListedEvent{State: string(relay.Parked), Reason: "too large"}
	requireStates(redriven, sent, discarded, sent, sent, parked, waits)
	_, err := w.ParkingAdmin().Redrive(t.Context(), &entries[5].Key)
	require.NoError(t, err)
	redrive := operations.ListedEvent{State: string(relay.Redrive), Reason: "too large"}
	requireStates(redriven, sent, discarded, sent, sent, redrive, waits)
	requireEachState(t, w.EventLog)
}

// requireEachState requires that the filter by state chooses exactly the events that the whole list shows in this state, also after a
// limit and before a position.
func requireEachState(t *testing.T, log operations.EventLog) {
	t.Helper()
	all, err := log.List(t.Context(), operations.EventFilter{Limit: 100})
	require.NoError(t, err)
	want := make(map[string][]operations.ListedEvent)
	for _, item := range all {
		require.Contains(t, operations.EventStates(), item.State)
		want[item.State] = append(want[item.State], item)
	}
	for _, state := range append(operations.EventStates(), "none of them") {
		found, err := log.List(t.Context(), operations.EventFilter{State: state, Limit: 100})
		require.NoError(t, err)
		require.Equal(t, want[state], found, state)
		for i, item := range found {
			earlier := list(t, log, operations.EventFilter{State: state, Before: item.Position, Limit: 1})
			require.Len(t, earlier, min(1, len(found)-1-i), state)
			if len(earlier) > 0 {
				require.Equal(t, found[i+1].Position, earlier[0], state)
			}
		}
	}
}

func listOpen(t *testing.T, w *eventLogFixture) {
	writer, err := w.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage("a", 1)))
	require.Empty(t, list(t, w.EventLog, operations.EventFilter{Limit: 10}))
	require.NoError(t, writer.Commit())
	require.Len(t, list(t, w.EventLog, operations.EventFilter{Limit: 10}), 1)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = w.EventLog.List(ended, operations.EventFilter{Limit: 10})
	require.ErrorIs(t, err, context.Canceled)
}

func listInvalid(t *testing.T, w *eventLogFixture) {
	entries := w.append("a", 3)
	w.Spoil(t, entries[1].Position)
	found, err := w.EventLog.List(t.Context(), operations.EventFilter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, 3)
	require.NotEmpty(t, found[1].Invalid)
	require.Equal(t, entries[1].Progress(), found[1].Progress())
	require.Empty(t, found[0].Invalid)
}

func listPayloads(t *testing.T, w *eventLogFixture) {
	sizes := []int{100, operations.MaxListedPayload, operations.MaxListedPayload + 1, 200}
	var messages []outbox.Message
	for i, size := range sizes {
		message := relaytest.NewMessage("a", int64(i)+1)
		message.Payload = []byte(`"` + strings.Repeat("x", size-2) + `"`)
		messages = append(messages, message)
	}
	writer, err := w.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, writer.Append(t.Context(), messages...))
	require.NoError(t, writer.Commit())

	found, err := w.EventLog.List(t.Context(), operations.EventFilter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, len(sizes))
	for _, item := range found {
		require.Nil(t, item.Payload)
		require.Empty(t, item.Omitted)
		require.Empty(t, item.Invalid, "which says nothing about a broker")
	}
	found, err = w.EventLog.List(t.Context(), operations.EventFilter{Limit: 10, Payloads: true})
	require.NoError(t, err)
	for i, message := range messages {
		item := found[len(found)-1-i]
		if len(message.Payload) > operations.MaxListedPayload {
			require.Nil(t, item.Payload)
			require.Contains(t, item.Omitted, "1048576 bytes")
			continue
		}
		require.Equal(t, message.Payload, item.Payload)
		require.Empty(t, item.Omitted)
	}
	require.Equal(t, messages[2].Key, found[1].Key)
}

// listAll checks that a list has the payloads of the newest events, up to MaxListedBytes. It lists the other events without a payload.
func listAll(t *testing.T, w *eventLogFixture) {
	const size = operations.MaxListedPayload
	writer, err := w.Begin(t.Context())
	require.NoError(t, err)
	payload := []byte(`"` + strings.Repeat("x", size-2) + `"`)
	for version := range int64(operations.MaxListedBytes/size + 2) {
		message := relaytest.NewMessage("a", version+1)
		message.Payload = payload
		require.NoError(t, writer.Append(t.Context(), message))
	}
	require.NoError(t, writer.Commit())
	found, err := w.EventLog.List(t.Context(), operations.EventFilter{Limit: 100, Payloads: true})
	require.NoError(t, err)
	require.Len(t, found, operations.MaxListedBytes/size+2)
	for i, item := range found {
		require.Equal(t, i >= operations.MaxListedBytes/size, item.Omitted != "", "entry %d", i)
		require.Equal(t, item.Omitted != "", item.Payload == nil, "entry %d", i)
	}
}
