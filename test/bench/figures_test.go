// Package bench measures what the engine costs: how fast a backlog drains, and how long an event travels.
//
// `make bench` prints the figures. Without -full the same code runs for a few seconds, as a test that the figures can
// still be taken and that the drain is not far off what the broker allows.
package bench_test

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

var full = flag.Bool("full", false, "measure on 100,000 events and 1,000 orders, and print the figures (about two minutes)")

func TestMain(m *testing.M) { infra.Main(m) }

// scale is how much is measured.
type scale struct {
	events  int // of the backlog
	singles int // single publishes to compare with
	orders  int // posted at 100 a second
	warmUp  int // orders posted before those that count
}

const (
	patience = 60 * time.Second // for anything that is waited for
	farOff   = 0.2              // of the raw batches: below, something is wrong rather than slow
)

// TestFigures takes all figures in one run, on servers that write durably: Postgres with fsync, NATS with sync_interval
// always.
func TestFigures(t *testing.T) {
	size := scale{events: 3_000, singles: 100, orders: 30, warmUp: 5}
	if *full {
		size = scale{events: 100_000, singles: 3_000, orders: 1_000, warmUp: 50}
	}
	var text strings.Builder
	report := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(report, "\n%d processors, %s\n", runtime.NumCPU(), runtime.Version())
	t.Run("drain", func(t *testing.T) {
		figures := measureDrain(t, size)
		figures.print(report, size)
		require.Greater(t, median(figures.ratios(figures.raw)), farOff, "events/s of the relay: %.0f, of raw batches: %.0f", figures.relay, figures.raw)
	})
	t.Run("latency", func(t *testing.T) {
		fmt.Fprintf(report, "\nLatency of %d orders, 100 a second\tp50\tp90\tp99\tmax\n", size.orders)
		t.Run("one instance", func(t *testing.T) {
			printLatencies(report, "API and relay in one instance", measureLatency(t, size, "api,relay"))
		})
		t.Run("two instances", func(t *testing.T) {
			printLatencies(report, "API and relay in two instances", measureLatency(t, size, "api", "relay"))
		})
		t.Run("floor", func(t *testing.T) {
			printLatencies(report, "the floor: a single publish until it is delivered", measureFloor(t, size))
		})
		fmt.Fprint(report, "From outbox.recorded_at, just before the commit, to inbox.applied_at, in the transaction of the subscriber's effect,\n"+
			"both on Postgres' clock. The floor is a synchronous publish until a plain consumer has the message, without Postgres.\n\n")
	})
	require.NoError(t, report.Flush())
	if *full {
		fmt.Print(text.String())
	}
}

func printLatencies(w io.Writer, name string, latencies []time.Duration) {
	slices.Sort(latencies)
	fmt.Fprint(w, "  ", name)
	for _, share := range []float64{0.50, 0.90, 0.99, 1} {
		at := max(int(share*float64(len(latencies))+0.5)-1, 0)
		fmt.Fprintf(w, "\t%.1f ms", float64(latencies[at].Microseconds())/1000)
	}
	fmt.Fprintln(w)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
