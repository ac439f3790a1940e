package bench_test

import (
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const mebibytes = " MiB"

// measureMemory drains a long backlog with an instance that does nothing else, and reads the size of its heap at each
// collection, when it is largest, from the runtime's own trace.
func measureMemory(t *testing.T, size scale) []figure {
	t.Helper()
	database, broker := infra.Database(t), infra.Broker(t)
	fill(t, database, size.memory, 0)
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	instance := launch(t, database, broker, []string{"GODEBUG=gctrace=1"}, "relay")
	require.Eventually(t, func() bool {
		stream, err := js.Stream(t.Context(), "ORDERS")
		return err == nil && stream.CachedInfo().State.LastSeq == uint64(size.memory)
	}, 5*waitTimeout, 100*time.Millisecond)

	return heapFigures(t, fmt.Sprintf("heap of a relay that drains %d events", size.memory), instance)
}

// heapFigures returns how large the heap of a process was, and whether it grew. The process ran with GODEBUG=gctrace=1.
func heapFigures(t *testing.T, name string, process *infra.Process) []figure {
	t.Helper()
	var heap []float64
	for _, line := range collection.FindAllStringSubmatch(process.String(), -1) {
		before, err := strconv.ParseFloat(line[1], 64)
		require.NoError(t, err)
		heap = append(heap, before)
	}
	require.GreaterOrEqual(t, len(heap), 8, "%s", process)
	quarter := len(heap) / 4
	second, last := median(heap[quarter:2*quarter]), median(heap[3*quarter:])
	most := slices.Max(heap)
	return []figure{
		{name: name, measured: quantity(most, mebibytes) + " at most", ratio: most, unit: mebibytes, goal: 100, upperBound: true},
		{
			name: "the same, is it flat?", measured: quantity(last, mebibytes) + " in the last quarter",
			floor: quantity(second, mebibytes) + " in the second", ratio: last / second, unit: "x", goal: 1.2, upperBound: true,
		},
	}
}

// measureSubscriberMemory lets a process apply the events of a stream, and reads the size of its heap. It compares the speed in the last quarter
// of the events with the speed in the second quarter.
func measureSubscriberMemory(t *testing.T, db *sql.DB, database, broker string, events int) []figure {
	t.Helper()
	reset(t, db)
	process := infra.Launch(t, append(environment(database, broker), "GODEBUG=gctrace=1"), "subscribe", "--id", "memory")
	defer process.Kill()
	var passed [5]time.Time // when each quarter had been applied
	for quarter, began := 0, time.Now(); quarter < len(passed); {
		var sequence int
		err := db.QueryRowContext(t.Context(),
			"SELECT coalesce(min(sequence), -1) FROM subscriber_lanes AS measured WHERE subscriber = 'memory'").Scan(&sequence)
		require.NoError(t, err)
		for quarter < len(passed) && sequence >= max(1, events*quarter/4) {
			passed[quarter] = time.Now()
			quarter++
		}
		require.Less(t, time.Since(began), 5*waitTimeout, "the subscriber: %s", process)
		time.Sleep(5 * time.Millisecond)
	}
	second := perSecond(events/4, passed[2].Sub(passed[1]))
	last := perSecond(events/4, passed[4].Sub(passed[3]))
	return append(heapFigures(t, fmt.Sprintf("heap of a subscriber that applies %d events", events), process), figure{
		name: "the same, is its speed flat?", measured: fmt.Sprintf("%.0f/s in the last quarter", last),
		floor: fmt.Sprintf("%.0f/s in the second", second), ratio: last / second, unit: "%", goal: 0.8,
	})
}

// collection is a line such as: gc 7 @0.1s 2%: … ms cpu, 9->10->5 MB, 11 MB goal, …
var collection = regexp.MustCompile(`gc \d+ @[^\n]* (\d+)->\d+->\d+ MB`)
