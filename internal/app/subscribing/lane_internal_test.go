package subscribing

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func messageAt(sequence uint64, payload int) inbox.Message {
	return inbox.Message{
		StreamPosition: inbox.StreamPosition{Sequence: sequence, StoredAt: time.Unix(0, int64(sequence))},
		Event:          &inbox.Event{Sequence: sequence, Entry: outbox.Entry{Message: outbox.Message{Payload: make([]byte, payload)}}},
	}
}

// TestBatchesFollowTheHandler checks that a batch has as many events as the handler manages in the time of a transaction, and at least one.
// The size grows step by step. Only new events count, and duplicates do not.
func TestBatchesFollowTheHandler(t *testing.T) {
	const budget = 100 * time.Millisecond
	for name, test := range map[string]struct {
		batch, fresh, want int
		took               time.Duration
	}{
		"a fast handler doubles it":          {16, 16, 32, time.Millisecond},
		"up to the largest":                  {400, 400, largestBatch, time.Millisecond},
		"a slow handler makes it fit":        {100, 100, 10, time.Second},
		"a very slow one leaves one event":   {16, 1, 1, time.Second},
		"few new events of many":             {100, 10, 100, 10 * time.Millisecond},
		"duplicates alone":                   {16, 0, 32, time.Second},
		"a clock that shows no time":         {16, 16, 32, 0},
		"one event as long as the budget":    {1, 1, 1, budget},
		"one event in half the budget or so": {1, 1, 2, budget / 2},
	} {
		l := &lane{batchSize: test.batch}
		l.adaptBatchSize(test.fresh, test.took, budget)
		require.Equal(t, test.want, l.batchSize, name)
	}
}

// TestLaneIsBounded checks that a lane takes no more events than its limit, and that it asks for events again when at most a quarter of the
// queue or two batches are left.
func TestLaneIsBounded(t *testing.T) {
	l := newLane(inbox.Checkpoint{Lanes: 1}, false)
	count := 0
	for l.offer(messageAt(uint64(count+1), 1)) {
		count++
	}
	require.True(t, l.full)
	require.Equal(t, max(minAhead, batchesAhead*firstBatch), count)
	require.False(t, l.batchDone(inbox.Batch{Events: make([]inbox.Event, count*3/4-1)}, inbox.Checkpoint{}), "more than a quarter is left")
	require.True(t, l.batchDone(inbox.Batch{Events: make([]inbox.Event, 1)}, inbox.Checkpoint{}))
	require.False(t, l.full)

	l.batchSize = count / 4
	for l.offer(messageAt(uint64(count+1), 1)) {
		count++
	}
	require.False(t, l.batchDone(inbox.Batch{Events: make([]inbox.Event, l.batchSize)}, inbox.Checkpoint{}), "three batches are left")
	require.True(t, l.batchDone(inbox.Batch{Events: make([]inbox.Event, l.batchSize)}, inbox.Checkpoint{}))
}

// TestLaneIsCut checks that a lane drops events from the end of its queue until their bytes fit. It never drops the first event, or the
// events that its worker has taken. The lane reads on after the last event that it keeps.
func TestLaneIsCut(t *testing.T) {
	l := newLane(inbox.Checkpoint{Lanes: 1}, false)
	for sequence := range uint64(20) {
		require.True(t, l.offer(messageAt(sequence+1, 1000)))
		l.advance(messageAt(sequence+1, 0).StreamPosition)
	}
	size := l.bytes / 20
	l.trim(20 * size)
	require.Len(t, l.queue, 20)
	require.False(t, l.full)
	l.trim(18 * size)
	require.Len(t, l.queue, 18)
	require.Equal(t, uint64(18), l.readTo.Sequence)
	require.True(t, l.full)
	l.batchSize = 5
	require.Len(t, l.nextBatch().Events, 5)
	l.trim(0)
	require.Len(t, l.queue, 5)
	require.Equal(t, 5*size, l.bytes)
	l.batchDone(inbox.Batch{Events: make([]inbox.Event, 4)}, inbox.Checkpoint{})
	l.trim(0)
	require.Len(t, l.queue, 1)
	require.Equal(t, uint64(5), l.readTo.Sequence)
}

// TestLaneBatches checks the position of a lane after a batch: the last event of the batch, or the last message that was read if the queue
// is empty.
func TestLaneBatches(t *testing.T) {
	l := newLane(inbox.Checkpoint{Lanes: 1, Revision: 7}, false)
	l.batchSize = 2
	for _, sequence := range []uint64{3, 5, 8} {
		require.True(t, l.offer(messageAt(sequence, 1)))
	}
	require.True(t, l.advance(messageAt(9, 1).StreamPosition))
	require.False(t, l.advance(messageAt(9, 1).StreamPosition))

	batch := l.nextBatch()
	require.Equal(t, l.checkpoint, batch.From)
	require.Len(t, batch.Events, 2)
	require.Equal(t, messageAt(5, 1).StreamPosition, batch.To)
	l.batchDone(inbox.Batch{Events: make([]inbox.Event, 2)}, inbox.Checkpoint{StreamPosition: batch.To, Revision: 8})

	l.suspect(0)
	batch = l.nextBatch()
	require.Len(t, batch.Events, 1)
	require.True(t, batch.Events[0].Suspect)
	require.Equal(t, uint64(9), batch.To.Sequence)
	l.batchDone(inbox.Batch{Events: make([]inbox.Event, 1)}, inbox.Checkpoint{StreamPosition: batch.To})
	require.Empty(t, l.nextBatch().Events)
}

// TestPassedOverEventsAreCountedWithTheirBatch checks that unwanted events are counted with the first batch that ends after them, even if
// more are read while this batch is applied.
func TestPassedOverEventsAreCountedWithTheirBatch(t *testing.T) {
	l := newLane(inbox.Checkpoint{Lanes: 1}, false)
	l.batchSize = 1
	pass := func(sequences ...uint64) {
		l.unwanted += len(sequences)
		l.advance(inbox.StreamPosition{Sequence: sequences[len(sequences)-1]})
	}
	pass(1, 2)
	require.True(t, l.offer(messageAt(3, 1)))
	pass(4)
	require.True(t, l.offer(messageAt(5, 1)))
	pass(6, 7, 8)
	first := l.nextBatch()
	require.Equal(t, uint64(3), first.To.Sequence)
	require.Equal(t, 2, first.PassedOver)
	pass(9)
	l.batchDone(first, inbox.Checkpoint{})
	l.batchSize = 5
	second := l.nextBatch()
	require.Equal(t, uint64(9), second.To.Sequence)
	require.Equal(t, 5, second.PassedOver)
	pass(10)
	l.batchDone(second, inbox.Checkpoint{})
	last := l.nextBatch()
	require.Empty(t, last.Events)
	require.Equal(t, 1, last.PassedOver)
	l.restart(inbox.Checkpoint{})
	require.Zero(t, l.nextBatch().PassedOver)
}
