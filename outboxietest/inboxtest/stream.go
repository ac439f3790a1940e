package inboxtest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// StreamHarness is a broker without a stream, and with a subscriber that never had a durable consumer.
type StreamHarness interface {
	Publisher() relay.StreamRepair
	Reader(t *testing.T) inbox.Stream // each call returns the stream as another copy reads it
	AppendForeign(t *testing.T)       // "hello" on the subject stray of the suites, without headers
	Delete(t *testing.T, sequence uint64)
	Drop(t *testing.T) // the stream
}

// Limits of the tests.
const (
	plenty   = 1000
	signaled = 30 * time.Second // within which a signal must come
)

var unlimited = inbox.ReadLimit{Count: plenty, Bytes: 1 << 20}

// TestStream checks what inbox.Stream promises: a read returns the messages as they were stored, in order, and shows which were removed. open
// returns a harness of its own for each test.
func TestStream(t *testing.T, open func(t *testing.T) StreamHarness) {
	check := contracttest.Runner(t, func(t *testing.T) StreamHarness {
		t.Parallel()
		return open(t)
	})
	check("a message is read as it was stored", readsWhatWasStored)
	check("a read begins with the sequence itself", readsInclusively)
	check("a read is limited by count", readsSoMany)
	check("a read is limited by bytes", readsSoMuch)
	check("removed messages are missing sequences", readsOverHoles)
	check("after the end there is nothing", readsPastTheEnd)
	check("stored times differ, and stay", readsStoredTimes)
	check("control messages are no events", readsControlMessages)
	check("a foreign message is unreadable", readsForeignMessages)
	check("the state is the stream's", streamState)
	check("a stream that was made again has another identity", streamIdentity)
	check("what is stored is signaled", streamSignals)
	check("reads may be concurrent", readsConcurrently)
	check("a call ends with its context", streamContext)
	check("without a stream there is nothing to read", streamMissing)
	check("a subscriber without a former consumer has none", streamFormer)
}

// filled opens the stream and appends events.
func filled(t *testing.T, h StreamHarness, events int) (relay.StreamRepair, []outbox.Entry) {
	t.Helper()
	publisher := h.Publisher()
	_, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	entries := relaytest.NewEntries(0, events)
	if events > 0 {
		_, err = publisher.Publish(t.Context(), 0, entries)
		require.NoError(t, err)
	}
	return publisher, entries
}

func read(t *testing.T, reader inbox.Stream, from uint64, limit inbox.ReadLimit) []inbox.Message {
	t.Helper()
	messages, err := reader.Read(t.Context(), from, limit)
	require.NoError(t, err)
	return messages
}

func requireSequences(t *testing.T, messages []inbox.Message, sequences ...uint64) {
	t.Helper()
	found := make([]uint64, 0, len(messages))
	for _, message := range messages {
		found = append(found, message.Sequence)
	}
	require.Equal(t, append([]uint64{}, sequences...), found)
}

func readsWhatWasStored(t *testing.T, h StreamHarness) {
	publisher, _ := filled(t, h, 0)
	entries := relaytest.NewEntries(0, 3)
	entries[1].Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	before := time.Now().Add(-time.Minute)
	_, err := publisher.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	messages := read(t, h.Reader(t), 1, unlimited)
	requireSequences(t, messages, 1, 2, 3)
	for i, message := range messages {
		require.True(t, message.StoredAt.After(before))
		require.NotNil(t, message.Event)
		require.NoError(t, message.Event.Unreadable)
		require.False(t, message.Event.Suspect)
		require.Equal(t, message.Sequence, message.Event.Sequence)
		got := message.Event.Entry
		require.True(t, entries[i].RecordedAt.Equal(got.RecordedAt))
		got.RecordedAt = entries[i].RecordedAt
		require.Equal(t, entries[i], got)
	}
}

func readsInclusively(t *testing.T, h StreamHarness) {
	filled(t, h, 5)
	reader := h.Reader(t)
	requireSequences(t, read(t, reader, 3, unlimited), 3, 4, 5)
	requireSequences(t, read(t, reader, 5, unlimited), 5)
	requireSequences(t, read(t, reader, 0, unlimited), 1, 2, 3, 4, 5)
}

func readsSoMany(t *testing.T, h StreamHarness) {
	filled(t, h, 5)
	reader := h.Reader(t)
	requireSequences(t, read(t, reader, 2, inbox.ReadLimit{Count: 1, Bytes: 1 << 20}), 2)
	requireSequences(t, read(t, reader, 2, inbox.ReadLimit{Count: 3, Bytes: 1 << 20}), 2, 3, 4)
	requireSequences(t, read(t, reader, 2, inbox.ReadLimit{Count: 4, Bytes: 1 << 20}), 2, 3, 4, 5)
}

// readsSoMuch checks that a read stops at the limit. The message that reaches the limit may be in the read or not.
func readsSoMuch(t *testing.T, h StreamHarness) {
	publisher, _ := filled(t, h, 0)
	entries := relaytest.NewEntries(0, 10)
	for i := range entries {
		entries[i].Payload = []byte(`"` + strings.Repeat("x", 10_000) + `"`)
	}
	_, err := publisher.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	reader := h.Reader(t)
	requireSequences(t, read(t, reader, 4, inbox.ReadLimit{Count: plenty, Bytes: 1}), 4)
	some := read(t, reader, 2, inbox.ReadLimit{Count: plenty, Bytes: 45_000})
	require.GreaterOrEqual(t, len(some), 3)
	require.LessOrEqual(t, len(some), 5)
	for i, message := range some {
		require.EqualValues(t, 2+i, message.Sequence)
	}
}

func readsOverHoles(t *testing.T, h StreamHarness) {
	filled(t, h, 7)
	for _, sequence := range []uint64{1, 3, 4, 6} {
		h.Delete(t, sequence)
	}
	reader := h.Reader(t)
	requireSequences(t, read(t, reader, 1, unlimited), 2, 5, 7)
	requireSequences(t, read(t, reader, 3, inbox.ReadLimit{Count: 1, Bytes: 1 << 20}), 5)
	requireSequences(t, read(t, reader, 6, unlimited), 7)
}

func readsPastTheEnd(t *testing.T, h StreamHarness) {
	publisher, _ := filled(t, h, 0)
	reader := h.Reader(t)
	require.Empty(t, read(t, reader, 1, unlimited))
	_, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 2))
	require.NoError(t, err)
	require.Empty(t, read(t, reader, 3, unlimited))
	require.Empty(t, read(t, reader, 1<<40, unlimited))
	h.Delete(t, 2)
	require.Empty(t, read(t, reader, 2, unlimited))
}

func readsStoredTimes(t *testing.T, h StreamHarness) {
	filled(t, h, 50)
	reader := h.Reader(t)
	first := read(t, reader, 1, unlimited)
	require.Len(t, first, 50)
	for i := 1; i < len(first); i++ {
		require.True(t, first[i].StoredAt.After(first[i-1].StoredAt))
	}
	require.Equal(t, first[1:], read(t, reader, 2, unlimited))
	require.Equal(t, first, read(t, h.Reader(t), 1, unlimited))
}

func readsControlMessages(t *testing.T, h StreamHarness) {
	publisher, entries := filled(t, h, 2)
	last, err := publisher.PublishControl(t.Context(), 2, relay.ControlMessage{Progress: entries[1].Progress(), Parked: "too large"})
	require.NoError(t, err)
	_, err = publisher.Redrive(t.Context(), last, entries[1].Progress(), entries[:1])
	require.NoError(t, err)
	messages := read(t, h.Reader(t), 1, unlimited)
	requireSequences(t, messages, 1, 2, 3, 4)
	require.Nil(t, messages[2].Event)
	require.False(t, messages[2].StoredAt.IsZero())
	require.NotNil(t, messages[3].Event)
	require.NoError(t, messages[3].Event.Unreadable)
	require.Equal(t, entries[0].ID, messages[3].Event.ID)
	for i, progress := range []outbox.Position{1, 2, 2, 2} {
		require.Equal(t, progress, messages[i].Progress, "progress at sequence %d", i+1)
	}
}

// readsForeignMessages also checks that such a message has an id of its own, no progress, and no other data than its subject and payload.
func readsForeignMessages(t *testing.T, h StreamHarness) {
	filled(t, h, 1)
	h.AppendForeign(t)
	h.AppendForeign(t)
	reader := h.Reader(t)
	messages := read(t, reader, 1, unlimited)
	requireSequences(t, messages, 1, 2, 3)
	for _, message := range messages[1:] {
		require.NotNil(t, message.Event)
		require.ErrorIs(t, message.Event.Unreadable, inbox.ErrUnreadable)
		require.Equal(t, message.Sequence, message.Event.Sequence)
		require.Zero(t, message.Progress)
		require.NotEmpty(t, message.Event.ID)
		id := message.Event.ID
		message.Event.ID = ""
		require.Equal(t, outbox.Entry{Message: outbox.Message{Subject: relaytest.SubjectPrefix + "stray", Payload: []byte("hello")}}, message.Event.Entry)
		message.Event.ID = id
	}
	require.NotEqual(t, messages[1].Event.ID, messages[2].Event.ID)
	require.Equal(t, messages[1].Event.ID, read(t, h.Reader(t), 2, unlimited)[0].Event.ID)
}

func streamState(t *testing.T, h StreamHarness) {
	publisher, _ := filled(t, h, 0)
	reader := h.Reader(t)
	requireState := func(first, last uint64) {
		t.Helper()
		info, err := publisher.Look(t.Context())
		require.NoError(t, err)
		state, err := reader.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, inbox.StreamState{Created: info.Created, First: first, Last: last}, state)
		require.NotEmpty(t, state.Created)
	}
	requireState(1, 0)
	_, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 3))
	require.NoError(t, err)
	requireState(1, 3)
	h.Delete(t, 2)
	requireState(1, 3)
}

func streamIdentity(t *testing.T, h StreamHarness) {
	publisher, _ := filled(t, h, 3)
	reader := h.Reader(t)
	before, err := reader.State(t.Context())
	require.NoError(t, err)
	old := read(t, reader, 1, unlimited)
	h.Drop(t)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	_, err = publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 3))
	require.NoError(t, err)
	after, err := reader.State(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, before.Created, after.Created)
	for i, message := range read(t, reader, 1, unlimited) {
		require.False(t, message.StoredAt.Equal(old[i].StoredAt))
	}
}

// streamSignals checks that each append is signaled. It waits for the signal before it appends again.
func streamSignals(t *testing.T, h StreamHarness) {
	publisher, _ := filled(t, h, 0)
	reader, other := h.Reader(t), h.Reader(t)
	_, err := reader.State(t.Context()) // after the answer, the broker knows the reader
	require.NoError(t, err)
	_, err = other.State(t.Context())
	require.NoError(t, err)
	entries := relaytest.NewEntries(0, 30)
	requireSignal := func() {
		t.Helper()
		for _, copied := range []inbox.Stream{reader, other} {
			select {
			case <-copied.Stored():
			case <-time.After(signaled):
				require.FailNow(t, "nothing was signaled")
			}
		}
	}
	for i := range 3 {
		_, err := publisher.Publish(t.Context(), uint64(i), entries[i:i+1]) //nolint:gosec // not negative
		require.NoError(t, err)
		requireSignal()
	}
	_, err = publisher.Publish(t.Context(), 3, entries[3:])
	require.NoError(t, err)
	requireSignal()
	_, err = publisher.Redrive(t.Context(), 30, entries[29].Progress(), entries[:1])
	require.NoError(t, err)
	requireSignal()
}

func readsConcurrently(t *testing.T, h StreamHarness) {
	filled(t, h, 100)
	reader := h.Reader(t)
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			for from := uint64(i) + 1; from <= 100; from += 7 { //nolint:gosec // not negative
				messages, err := reader.Read(t.Context(), from, inbox.ReadLimit{Count: 20, Bytes: 1 << 20})
				if err != nil || len(messages) != int(min(20, 101-from)) || messages[0].Sequence != from { //nolint:gosec // small
					t.Errorf("from %d: %d messages, %v", from, len(messages), err)
				}
			}
		})
	}
	readers.Wait()
}

func streamContext(t *testing.T, h StreamHarness) {
	filled(t, h, 1)
	reader := h.Reader(t)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := reader.Read(ended, 1, unlimited)
	require.ErrorIs(t, err, context.Canceled)
	_, err = reader.State(ended)
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = reader.LegacyConsumer(ended)
	require.ErrorIs(t, err, context.Canceled)
	requireSequences(t, read(t, reader, 1, unlimited), 1)
}

func streamMissing(t *testing.T, h StreamHarness) {
	reader := h.Reader(t)
	_, err := reader.Read(t.Context(), 1, unlimited)
	require.ErrorIs(t, err, inbox.ErrNoStream)
	_, err = reader.State(t.Context())
	require.ErrorIs(t, err, inbox.ErrNoStream)
	_, _, err = reader.LegacyConsumer(t.Context())
	require.ErrorIs(t, err, inbox.ErrNoStream)
	filled(t, h, 1)
	requireSequences(t, read(t, reader, 1, unlimited), 1)
	h.Drop(t)
	_, err = reader.Read(t.Context(), 1, unlimited)
	require.ErrorIs(t, err, inbox.ErrNoStream)
}

func streamFormer(t *testing.T, h StreamHarness) {
	filled(t, h, 1)
	_, found, err := h.Reader(t).LegacyConsumer(t.Context())
	require.NoError(t, err)
	require.False(t, found)
}
