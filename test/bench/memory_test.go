package bench_test

import (
	"fmt"
	"regexp"
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
	}, 5*patience, 100*time.Millisecond)

	var heap []float64
	for _, line := range collection.FindAllStringSubmatch(instance.String(), -1) {
		before, err := strconv.ParseFloat(line[1], 64)
		require.NoError(t, err)
		heap = append(heap, before)
	}
	require.GreaterOrEqual(t, len(heap), 8, "%s", instance)
	quarter := len(heap) / 4
	second, last := median(heap[quarter:2*quarter]), median(heap[3*quarter:])
	most := 0.0
	for _, before := range heap {
		most = max(most, before)
	}
	return []figure{
		{
			name: fmt.Sprintf("heap of a relay that drains %d events", size.memory), measured: quantity(most, mebibytes) + " at most",
			ratio: most, unit: mebibytes, goal: 100, most: true,
		},
		{
			name: "the same, is it flat?", measured: quantity(last, mebibytes) + " in the last quarter",
			floor: quantity(second, mebibytes) + " in the second", ratio: last / second, unit: "x", goal: 1.2, most: true,
		},
	}
}

// collection is a line such as: gc 7 @0.1s 2%: … ms cpu, 9->10->5 MB, 11 MB goal, …
var collection = regexp.MustCompile(`gc \d+ @[^\n]* (\d+)->\d+->\d+ MB`)
