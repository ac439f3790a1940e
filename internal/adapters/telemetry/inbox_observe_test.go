package telemetry_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// laneAt returns the checkpoint of a lane that has not moved for the time idle.
func laneAt(lane int, sequence uint64, idle time.Duration) inbox.Checkpoint {
	return inbox.Checkpoint{Lane: lane, StreamPosition: inbox.StreamPosition{Sequence: sequence}, Idle: idle}
}

// TestSubscribersAreShown checks what the leader shows of a subscriber: its copies, its lanes, and the age of its stalled lane.
func TestSubscribersAreShown(t *testing.T) {
	lanes := []inbox.Checkpoint{laneAt(0, 7, 30*time.Second), laneAt(1, 9, 50*time.Second), laneAt(2, 9, time.Second)}
	for name, c := range map[string]struct {
		overview inbox.Overview
		lag      int64
		want     map[string]values
	}{
		"a lane stands still": {
			overview: inbox.Overview{Copies: []string{"a", "b"}, Lanes: lanes},
			want: map[string]values{
				"copies": {whose: 2}, "lanes": {whose: 3}, "paused.age": {whose: 0}, "stalled_lane.age": {whose: 30},
			},
		},
		"no lane has anything to do": {
			overview: inbox.Overview{Lanes: lanes[1:]},
			want:     map[string]values{"copies": {whose: 0}, "lanes": {whose: 2}, "paused.age": {whose: 0}, "stalled_lane.age": {whose: 0}},
		},
		"all lanes stand still": {
			overview: inbox.Overview{Lanes: lanes[1:]}, lag: 1,
			want: map[string]values{"copies": {whose: 0}, "lanes": {whose: 2}, "paused.age": {whose: 0}, "stalled_lane.age": {whose: 50}},
		},
		"it is paused": {
			overview: inbox.Overview{Subscription: inbox.Subscription{Paused: true}, PausedFor: time.Minute, Lanes: lanes}, lag: 1,
			want: map[string]values{"copies": {whose: 0}, "lanes": {whose: 3}, "paused.age": {whose: 60}, "stalled_lane.age": {whose: 0}},
		},
		"it is forgotten": {
			overview: inbox.Overview{Subscription: inbox.Subscription{Forgotten: time.Now()}},
			want:     map[string]values{"copies": {}, "lanes": {}, "paused.age": {}, "stalled_lane.age": {}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			mp, m := measuring()
			c.overview.Subscriber = "billing"
			w := &answers{leads: true, overviews: []inbox.Overview{c.overview}, lags: []operations.Lag{{Subscriber: "billing", Events: c.lag}}}
			registered(t)(telemetry.ObserveShared(mp, w.shared()))
			for gauge, want := range c.want {
				require.Equal(t, want, m.values(t, "outboxie.subscriber."+gauge), gauge)
			}
			require.Len(t, m.values(t, "outboxie.subscriber.lane.sequence"), len(c.overview.Lanes))
		})
	}
}
