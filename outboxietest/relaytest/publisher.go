package relaytest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// StreamHarness is a broker without the stream, with the operations that the suite needs. Reconnect returns when every publisher works
// again.
type StreamHarness interface {
	Connection
	Publisher() relay.StreamRepair      // each call returns the publisher of another instance; the suite uses several at once
	AppendForeign(t *testing.T)         // stores a message that somebody else wrote
	Delete(t *testing.T, seq uint64)    // deletes a message
	Drop(t *testing.T)                  // deletes the stream
	TooLarge() int                      // size of a payload that the broker never accepts
	Misconfigure(t *testing.T) func()   // makes the stream unfit for publishing; the returned function repairs it
	ForeignSubject() string             // a subject that is not the stream's
	Stored(t *testing.T) []outbox.Entry // the events in the stream, in order, without control messages
}

// Sizes of batches: one, a few, and so many that an adapter may need several steps.
var batchSizes = []int{1, 7, 8, 999, 1000, 1001, 2005}

// TestPublisher runs the contract of relay.Publisher. Each call of open returns a broker without the stream.
func TestPublisher(t *testing.T, open func(t *testing.T) StreamHarness) {
	check := contracttest.Runner(t, open)
	check("a stream is created only if first is given", streamCreate)
	check("an entry is stored unchanged", streamContent)
	check("batches of any size are contiguous", streamContiguous)
	check("a batch that does not follow the tail is refused", streamConflict)
	check("of several racers one wins", streamRace)
	check("each message carries its own progress", streamMeta)
	check("messages of others move the tail", streamForeign)
	check("a deleted message is missing, but its sequence counts", streamDeleted)
	check("a stream that was created again has another identity", streamRecreated)
	check("a stream begins at the sequence that is asked", streamFirst)
	check("an empty stream is raised, another is not", streamRaised)
	check("the entries before a refused entry are stored", streamRefused)
	check("an entry that no subscriber could read is refused", streamInvalid)
	check("redriven events carry the progress of the log", redriveMeta)
	check("a redrive that does not follow the tail is refused", redriveConflict)
	check("a refused entry ends a redrive", redriveRefused)
	check("a control message is a message, but no event", controlMeta)
	check("a long reason is cut", controlReason)
	check("a control message that does not follow the tail is refused", controlConflict)
	check("an unfit stream is refused until it is repaired", streamUnfit)
	check("a call ends with its context", streamContext)
	check("a lost connection is an outage", streamOutage)
	check("after a reconnect nothing is published before Open", streamReconnect)
}

// NewEntries returns n entries. Their positions are after+1, after+2, and so on.
func NewEntries(after outbox.Position, n int) []outbox.Entry {
	entries := make([]outbox.Entry, n)
	recorded := time.Now().Truncate(time.Microsecond).UTC()
	for i := range entries {
		position := after + outbox.Position(i) + 1
		entries[i] = outbox.Entry{
			Message: NewMessage(fmt.Sprintf("thing-%d", i%10), int64(position)), Position: position, RecordedAt: recorded,
		}
	}
	return entries
}

func openStream(t *testing.T, h StreamHarness) (relay.Publisher, relay.StreamInfo) {
	t.Helper()
	publisher := h.Publisher()
	info, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	return publisher, info
}

func publish(t *testing.T, publisher relay.Publisher, after uint64, entries []outbox.Entry) {
	t.Helper()
	last, err := publisher.Publish(t.Context(), after, entries)
	require.NoError(t, err)
	require.Equal(t, after+uint64(len(entries)), last)
}

func requireTail(t *testing.T, h StreamHarness, sequence uint64) {
	t.Helper()
	info, err := h.Publisher().Open(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, sequence, info.LastSequence)
}

func requireStored(t *testing.T, h StreamHarness, want []outbox.Entry) {
	t.Helper()
	require.Equal(t, progresses(want), progresses(h.Stored(t)))
}

func progresses(entries []outbox.Entry) []outbox.Progress {
	all := make([]outbox.Progress, 0, len(entries))
	for _, entry := range entries {
		all = append(all, entry.Progress())
	}
	return all
}

func streamCreate(t *testing.T, h StreamHarness) {
	publisher := h.Publisher()
	_, err := publisher.Open(t.Context(), 0)
	require.ErrorIs(t, err, relay.ErrStreamMissing)
	_, err = publisher.Look(t.Context())
	require.ErrorIs(t, err, relay.ErrStreamMissing)
	_, err = publisher.At(t.Context(), 1)
	require.ErrorIs(t, err, relay.ErrStreamMissing)
	_, err = publisher.Publish(t.Context(), 0, NewEntries(0, 1))
	require.Error(t, err)
	_, err = publisher.Redrive(t.Context(), 0, redriveAt, NewEntries(0, 1))
	require.Error(t, err)
	_, err = publisher.PublishControl(t.Context(), 0, relay.ControlMessage{Progress: redriveAt, Parked: "too large"})
	require.Error(t, err)
	_, err = publisher.Open(t.Context(), 0)
	require.ErrorIs(t, err, relay.ErrStreamMissing)

	created, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	require.NotEmpty(t, created.Created)
	require.Zero(t, created.LastSequence)
	for _, first := range []uint64{0, 1, 1000} {
		again, err := h.Publisher().Open(t.Context(), first)
		require.NoError(t, err)
		require.Equal(t, created, again)
	}
	publish(t, publisher, 0, NewEntries(0, 3))
	seen, err := h.Publisher().Look(t.Context())
	require.NoError(t, err)
	opened, err := h.Publisher().Open(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, opened, seen)
	require.Equal(t, relay.StreamInfo{
		Created: created.Created, FirstSequence: 1, LastSequence: 3, Messages: 3, Session: created.Session, Largest: created.Largest,
	}, seen)
}

func streamContent(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	entries := NewEntries(40, 12)
	entries[0].Headers = map[string]string{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1,b=2", "X-Tenant": "Zürich",
	}
	entries[1].Key = outbox.Key{Type: "ship ment", ID: "50% \"off\"/ü"}
	entries[2].Payload = []byte("{\"b\" :1,\n\t\"a\":  100.50 }")
	entries[3].RecordedAt = entries[3].RecordedAt.Add(123456 * time.Microsecond)
	publish(t, publisher, 0, entries[:2])
	publish(t, publisher, 2, entries[2:])
	stored := h.Stored(t)
	require.Len(t, stored, len(entries))
	for i := range entries {
		require.True(t, entries[i].RecordedAt.Equal(stored[i].RecordedAt))
		stored[i].RecordedAt = entries[i].RecordedAt
	}
	require.Equal(t, entries, stored)
}

func streamContiguous(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	publish(t, publisher, 0, nil)
	total := 0
	for _, n := range batchSizes {
		total += n
	}
	entries := NewEntries(0, total)
	stored := 0
	for _, n := range batchSizes {
		publish(t, publisher, uint64(stored), entries[stored:stored+n])
		stored += n
	}
	requireTail(t, h, uint64(total))
	requireStored(t, h, entries)
}

func streamConflict(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	there := NewEntries(0, 3)
	publish(t, publisher, 0, there)
	for _, n := range batchSizes {
		for _, after := range []uint64{0, 2, 4, 1000} {
			last, err := publisher.Publish(t.Context(), after, NewEntries(100, n))
			require.ErrorIs(t, err, relay.ErrTailMoved, "%d entries after %d", n, after)
			require.Equal(t, after, last)
		}
	}
	requireTail(t, h, 3)
	requireStored(t, h, there)
}

func streamRace(t *testing.T, h StreamHarness) {
	_, _ = openStream(t, h)
	tail := uint64(0)
	for _, n := range []int{1, 5, 50} {
		type result struct {
			entries []outbox.Entry
			err     error
		}
		results := make(chan result, 8)
		var start, racers sync.WaitGroup
		start.Add(1)
		for i := range cap(results) {
			publisher := h.Publisher()
			entries := NewEntries(outbox.Position(1000*i), n)
			racers.Go(func() {
				start.Wait()
				_, err := publisher.Publish(t.Context(), tail, entries)
				results <- result{entries, err}
			})
		}
		start.Done()
		racers.Wait()
		close(results)
		var won []outbox.Entry
		for r := range results {
			if r.err == nil {
				require.Nil(t, won, "two racers won")
				won = r.entries
				continue
			}
			require.ErrorIs(t, r.err, relay.ErrTailMoved)
		}
		require.NotNil(t, won, "nobody won")
		tail += uint64(n)
		requireTail(t, h, tail)
		stored := h.Stored(t)
		require.Equal(t, progresses(won), progresses(stored[len(stored)-n:]))
	}
}

func streamMeta(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	entries := NewEntries(70, 33)
	publish(t, publisher, 0, entries[:3])
	publish(t, publisher, 3, entries[3:])
	for i, entry := range entries {
		meta, err := h.Publisher().At(t.Context(), uint64(i)+1)
		require.NoError(t, err)
		require.Equal(t, relay.MessageMeta{Own: true, Progress: entry.Progress(), Event: entry.Position}, meta)
	}
	for _, sequence := range []uint64{0, 34, 1000} {
		_, err := publisher.At(t.Context(), sequence)
		require.ErrorIs(t, err, relay.ErrNoMessage)
	}
}

func streamForeign(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	publish(t, publisher, 0, NewEntries(0, 2))
	h.AppendForeign(t)
	requireTail(t, h, 3)
	for _, n := range []int{1, 20} {
		last, err := publisher.Publish(t.Context(), 2, NewEntries(2, n))
		require.ErrorIs(t, err, relay.ErrTailMoved)
		require.Equal(t, uint64(2), last)
	}
	meta, err := publisher.At(t.Context(), 3)
	require.NoError(t, err)
	require.Zero(t, meta)
	publish(t, publisher, 3, NewEntries(2, 2))
}

func streamDeleted(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	publish(t, publisher, 0, NewEntries(0, 10))
	h.Delete(t, 10)
	h.Delete(t, 4)
	requireTail(t, h, 10)
	for _, sequence := range []uint64{4, 10} {
		_, err := publisher.At(t.Context(), sequence)
		require.ErrorIs(t, err, relay.ErrNoMessage)
	}
	meta, err := publisher.At(t.Context(), 9)
	require.NoError(t, err)
	require.True(t, meta.Own)
	publish(t, publisher, 10, NewEntries(10, 10))
	requireTail(t, h, 20)
}

func streamRecreated(t *testing.T, h StreamHarness) {
	publisher, first := openStream(t, h)
	publish(t, publisher, 0, NewEntries(0, 2))
	h.Drop(t)
	_, err := publisher.Open(t.Context(), 0)
	require.ErrorIs(t, err, relay.ErrStreamMissing)
	_, err = publisher.Publish(t.Context(), 2, NewEntries(2, 1))
	require.Error(t, err)
	second, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	require.NotEqual(t, first.Created, second.Created)
	require.Zero(t, second.LastSequence)
	last, err := publisher.Publish(t.Context(), 2, NewEntries(2, 1))
	require.ErrorIs(t, err, relay.ErrTailMoved)
	require.Equal(t, uint64(2), last)
}

func streamFirst(t *testing.T, h StreamHarness) {
	const first = 3_000_000_000
	publisher := h.Publisher()
	created, err := publisher.Open(t.Context(), first)
	require.NoError(t, err)
	require.EqualValues(t, first-1, created.LastSequence)
	require.EqualValues(t, first-1, created.Base)
	require.Zero(t, created.Messages)
	_, err = publisher.At(t.Context(), first-1)
	require.ErrorIs(t, err, relay.ErrNoMessage)
	for _, before := range []uint64{0, 5} { // as for a former stream, whose sequences began at 1
		for _, size := range batchSizes[:3] {
			_, err = publisher.Publish(t.Context(), before, NewEntries(0, size))
			require.ErrorIs(t, err, relay.ErrTailMoved)
		}
	}
	publish(t, publisher, first-1, NewEntries(0, 20))
	info, err := publisher.Look(t.Context())
	require.NoError(t, err)
	require.Equal(t, relay.StreamInfo{
		Created: created.Created, Base: first - 1, FirstSequence: first, LastSequence: first + 19, Messages: 20, Session: created.Session,
		Largest: created.Largest,
	}, info)
	meta, err := publisher.At(t.Context(), first)
	require.NoError(t, err)
	require.EqualValues(t, 1, meta.Event)
}

func streamRaised(t *testing.T, h StreamHarness) {
	publisher := h.Publisher()
	_, err := publisher.Raise(t.Context(), 100)
	require.ErrorIs(t, err, relay.ErrStreamMissing)
	created, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	raised, err := publisher.Raise(t.Context(), 100)
	require.NoError(t, err)
	require.Equal(t, created.Created, raised.Created)
	require.EqualValues(t, 99, raised.LastSequence)
	lower, err := publisher.Raise(t.Context(), 50)
	require.NoError(t, err)
	require.EqualValues(t, 99, lower.LastSequence, "it never lowers sequences")
	_, err = publisher.Publish(t.Context(), 0, NewEntries(0, 1))
	require.ErrorIs(t, err, relay.ErrTailMoved)
	entries := NewEntries(0, 3)
	publish(t, publisher, 99, entries)
	_, err = publisher.Raise(t.Context(), 1000)
	require.ErrorIs(t, err, relay.ErrTailMoved)
	requireTail(t, h, 102)
	requireStored(t, h, entries)
}

func streamRefused(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	tail := uint64(0)
	var all []outbox.Entry
	spoil := map[string]func(*outbox.Entry){
		"too large":       func(e *outbox.Entry) { e.Payload = []byte(`"` + strings.Repeat("x", h.TooLarge()) + `"`) },
		"foreign subject": func(e *outbox.Entry) { e.Subject = h.ForeignSubject() },
	}
	for name, spoil := range spoil {
		for _, at := range []struct{ before, behind int }{{0, 2}, {3, 2}, {30, 2}, {0, 12}, {1, 12}, {7, 12}, {1000, 2}, {1003, 2}} {
			before := at.before
			entries := NewEntries(outbox.Position(tail), before+1+at.behind)
			spoil(&entries[before])
			last, err := publisher.Publish(t.Context(), tail, entries)
			var refused *relay.RefusedError
			require.ErrorAs(t, err, &refused, "%s after %d", name, before)
			require.Equal(t, entries[before].ID, refused.Entry.ID)
			require.NotEmpty(t, refused.Reason)
			require.Equal(t, tail+uint64(before), last)
			tail = last
			all = append(all, entries[:before]...)
			requireTail(t, h, tail)
		}
	}
	requireStored(t, h, all)
	publish(t, publisher, tail, NewEntries(outbox.Position(tail), 1))
}
