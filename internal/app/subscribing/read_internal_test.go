package subscribing

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// stocked returns a copy whose lanes have the given numbers of events in memory. Each event has 1,000 bytes or more, and each batch has ten
// events.
func stocked(t *testing.T, readAhead int, events ...int) *Subscriber {
	t.Helper()
	s := New("billing", "a", Ports{}, Options{ReadAhead: readAhead}, slog.New(slog.DiscardHandler))
	for number, count := range events {
		l := newLane(inbox.Checkpoint{Lane: number, Lanes: len(events)}, false)
		l.batchSize = 10
		for sequence := range uint64(count) {
			require.True(t, l.offer(messageAt(sequence+1, 1000)))
			l.advance(messageAt(sequence+1, 0).StreamPosition)
		}
		s.lanes[number] = l
	}
	return s
}

// TestReaderRests checks that the reader rests if four batches for each lane are read ahead, on average, or if the memory is full. The
// reader goes on when a quarter of these events is handled. It never rests while a lane runs low.
func TestReaderRests(t *testing.T) {
	const plenty = 1 << 30
	for name, test := range map[string]struct {
		readAhead int
		events    []int
		reads     bool
	}{
		"nothing is read ahead":        {plenty, []int{0, 0}, true},
		"less than four batches":       {plenty, []int{39, 40}, true},
		"four batches":                 {plenty, []int{40, 40}, false},
		"four batches in the mean":     {plenty, []int{20, 60}, false},
		"a lane with less than two":    {plenty, []int{19, 100}, true},
		"the memory is used":           {40_000, []int{20, 20}, false},
		"and a lane has less than two": {40_000, []int{19, 60}, true},
	} {
		s := stocked(t, test.readAhead, test.events...)
		from, reads := s.nextRead()
		require.Equal(t, test.reads, reads, name)
		if reads {
			require.Equal(t, uint64(test.events[0]), from, name)
		}
	}

	s := stocked(t, plenty, 40, 40)
	require.False(t, s.readerMayGoOn(s.lanes[0]), "it does not rest")
	_, reads := s.nextRead()
	require.False(t, reads)
	s.lanes[0].batchDone(inbox.Batch{Events: make([]inbox.Event, 10)}, inbox.Checkpoint{})
	require.False(t, s.readerMayGoOn(s.lanes[0]), "an eighth is done")
	s.lanes[1].batchDone(inbox.Batch{Events: make([]inbox.Event, 10)}, inbox.Checkpoint{})
	s.lanes[1].batchDone(inbox.Batch{Events: make([]inbox.Event, 1)}, inbox.Checkpoint{})
	require.True(t, s.readerMayGoOn(s.lanes[1]), "a quarter is done")

	s = stocked(t, plenty, 20, 100)
	_, reads = s.nextRead()
	require.False(t, reads)
	s.lanes[0].batchDone(inbox.Batch{Events: make([]inbox.Event, 1)}, inbox.Checkpoint{Lane: 0})
	require.True(t, s.readerMayGoOn(s.lanes[0]), "a lane has less than two batches")
}

// TestFullMemoryIsShared checks that a lane with more than its share of the memory drops the surplus if another lane has nothing to do, and
// that the reader reads the dropped events again later.
func TestFullMemoryIsShared(t *testing.T) {
	s := stocked(t, 40_000, 0, 60)
	from, reads := s.nextRead()
	require.True(t, reads)
	require.Zero(t, from)
	bytes, _ := s.buffered()
	require.LessOrEqual(t, bytes, 20_000)
	require.True(t, s.lanes[1].full)
	require.Equal(t, uint64(len(s.lanes[1].queue)), s.lanes[1].readTo.Sequence)
}

// TestLaneKeepsItsOwnProgress checks that a lane does not get the progress of a lane that stands at an earlier message. The stream lost its
// end: one lane has handled its events up to position 14, and stands at the beginning. The other lane stands at the second message.
func TestLaneKeepsItsOwnProgress(t *testing.T) {
	message := func(sequence uint64) inbox.Message {
		m := messageAt(sequence, 1)
		m.Progress, m.Event.Position = outbox.Position(sequence), outbox.Position(sequence)
		return m
	}
	s := New("billing", "a", Ports{}, Options{}, slog.New(slog.DiscardHandler))
	s.laneCount = 2
	ahead := newLane(inbox.Checkpoint{Lane: 0, Lanes: 2, StreamPosition: inbox.StreamPosition{Progress: 14}}, false)
	behind := newLane(inbox.Checkpoint{Lane: 1, Lanes: 2, StreamPosition: message(2).StreamPosition}, false)
	ahead.holeChecked, ahead.behindHole = true, message(1).StreamPosition
	s.lanes[0], s.lanes[1] = ahead, behind
	s.distribute(0, []inbox.Message{message(1), message(2), message(4), message(5)})
	require.EqualValues(t, 2, behind.hole.After, "the log is asked for position 3")
	require.EqualValues(t, 14, ahead.readTo.Progress)
	require.EqualValues(t, 14, ahead.hole.After)

	lowered := inbox.Message{StreamPosition: message(3).StreamPosition} // a control message, since an operator has sent the relay back
	ahead.hole, behind.hole = nil, nil
	s.distribute(2, []inbox.Message{message(2), lowered, message(4)})
	require.EqualValues(t, 4, ahead.readTo.Progress)
	require.EqualValues(t, 4, behind.readTo.Progress)
}
