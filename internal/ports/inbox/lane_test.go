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
		{outbox.Key{Type: "order", ID: "1"}, 1, 0},
		{outbox.Key{Type: "order", ID: "1"}, 16, 12},
		{outbox.Key{Type: "order", ID: "01a208ab-0000-7000-8000-000000000001"}, 16, 2},
		{outbox.Key{Type: "order", ID: "1"}, 1024, 588},
		{outbox.Key{Type: "orde", ID: "r1"}, 1024, 916},
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
