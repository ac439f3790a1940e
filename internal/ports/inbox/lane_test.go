package inbox_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestLaneOfNeverChanges checks that some aggregates still have the same lanes, because checkpoints in databases depend on the lanes.
func TestLaneOfNeverChanges(t *testing.T) {
	for _, pinned := range []struct {
		aggregate outbox.Key
		lanes     int
		lane      int
	}{
		{outbox.Key{Type: "voucher", ID: "1"}, 1, 0},
		{outbox.Key{Type: "voucher", ID: "1"}, 16, 14},
		{outbox.Key{Type: "voucher", ID: "01a208ab-0000-7000-8000-000000000001"}, 16, 12},
		{outbox.Key{Type: "voucher", ID: "1"}, 1024, 30},
		{outbox.Key{Type: "vouche", ID: "r1"}, 1024, 982},
		{outbox.Key{Type: "größe", ID: "世"}, 64, 44},
	} {
		require.Equal(t, pinned.lane, inbox.LaneOf(pinned.aggregate, pinned.lanes), "%s of %d", pinned.aggregate, pinned.lanes)
	}
}

// TestLanesAreEven checks that no lane has much more than its share of many aggregates.
func TestLanesAreEven(t *testing.T) {
	const lanes, each = 64, 1000
	var count [lanes]int
	for range lanes * each {
		count[inbox.LaneOf(outbox.Key{Type: "order", ID: uuid.Must(uuid.NewV7()).String()}, lanes)]++
	}
	for lane, number := range count {
		require.InDelta(t, each, number, each/4, "lane %d", lane)
	}
}

// TestHandledByAll checks that the position is not later in the log than any lane's, also if the lane at the earliest message is later in
// the log.
func TestHandledByAll(t *testing.T) {
	at := func(sequence uint64, progress outbox.Position) inbox.Checkpoint {
		return inbox.Checkpoint{StreamPosition: inbox.StreamPosition{Sequence: sequence, Progress: progress}}
	}
	for want, lanes := range map[inbox.StreamPosition][]inbox.Checkpoint{
		{Sequence: 5, Progress: 5}:  {at(9, 9), at(5, 5), at(7, 7)},
		{Sequence: 1, Progress: 12}: {at(1, 17), at(11, 12)},
		{Sequence: 1, Progress: 4}:  {at(1, 17), at(1, 4), at(11, 12)},
		{Sequence: 1}:               {at(1, 0), at(11, 12)},
		{Sequence: 1, Progress: 17}: {at(1, 17), at(11, 0)},
	} {
		require.Equal(t, want, inbox.HandledByAll(lanes))
	}
}
