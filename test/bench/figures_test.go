// Package bench measures what the engine costs. It compares each figure with a floor of the same run: the client libraries or pgbench do the
// same work without the engine, on the same servers. The servers write durably: Postgres with fsync, NATS with sync_interval always.
//
// `make bench` prints the table. Without -full the same code runs for some seconds, as a test that the figures can still be taken; `make
// bench-short` has the machine for itself, and also fails if a figure does not reach half of its goal.
package bench_test

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

var (
	full  = flag.Bool("full", false, "measure at full size, and print the table (some minutes)")
	judge = flag.Bool("judge", false, "fail when a figure does not meet half of its goal in any of three tries")
)

func TestMain(m *testing.M) { infra.Main(m) }

const (
	waitTimeout = 2 * time.Minute // for every wait
	tries       = 3               // because the machine may be busy for a moment
)

// scale is how much is measured.
type scale struct {
	events      int           // of a backlog
	singles     int           // single publishes to compare with
	orders      int           // posted at 100 a second, in each round
	lone        int           // orders posted in each round, each after the effect of the one before
	warmUp      int           // orders posted before those that count
	load        time.Duration // of 32 clients, in each round
	effects     int           // of a backlog in the stream, which a subscriber applies in each round
	singly      int           // effects of a slow handler, one at a time
	slow        time.Duration // how long copies with a slow handler are watched
	settle      time.Duration // the pause after late copies have their shares, before all copies are watched
	flood       time.Duration // of 32 clients, while a subscriber applies what they post
	memory      int           // events that are drained while the heap is watched
	idle        time.Duration // how long an idle leader is watched
	pauses      int           // before single events of plain SQL
	pause       time.Duration // each of them
	rounds      int           // of each comparison
	slowEvents  int           // in the stream when slow handlers are measured
	tracedTurns int           // in each round, with tracing and without
	complete    bool          // every figure is judged; otherwise all except the 99th percentiles
}

// TestFigures checks that the figures of one run reach their goals. It measures each figure against a floor of the same run.
func TestFigures(t *testing.T) {
	size := scale{
		events: 3_000, singles: 100, orders: 20, lone: 15, warmUp: 10, load: 500 * time.Millisecond, memory: 20_000, idle: 3 * time.Second, rounds: 3,
		effects: 3_000, singly: 20, slow: time.Second, settle: 4 * time.Second, slowEvents: 100_000, tracedTurns: 1, flood: time.Second,
		pauses: 2, pause: time.Second,
	}
	if *full {
		size = scale{
			events: 100_000, singles: 3_000, orders: 400, lone: 200, warmUp: 50, load: 5 * time.Second, memory: 1_000_000, idle: 20 * time.Second, rounds: 5,
			effects: 50_000, singly: 200, slow: 5 * time.Second, settle: 10 * time.Second, slowEvents: 200_000, tracedTurns: 3, flood: 30 * time.Second, complete: true,
			pauses: 12, pause: 10 * time.Second,
		}
	}
	var table table
	var far []string
	for _, section := range []struct {
		name    string
		measure func(*testing.T, scale) []figure
	}{
		{"drain", measureDrain},
		{"latency", measureLatency},
		{"plain", measurePlain},
		{"subscriber", measureSubscriber},
		{"throughput", measureThroughput},
		{"trips", measureTrips},
		{"memory", measureMemory},
		{"database", measureDatabase},
		{"telemetry", measureTelemetry},
	} {
		t.Run(section.name, func(t *testing.T) {
			figures := section.measure(t, size)
			for try := 1; *judge && try < tries && slices.ContainsFunc(figures, figure.farOff); try++ {
				figures = section.measure(t, size)
			}
			table = append(table, figures...)
			for _, f := range figures {
				t.Log(f)
				if *judge && f.farOff() {
					far = append(far, f.String())
				}
			}
		})
	}
	require.Empty(t, far, "not half of the goal, in any of %d tries", tries)
	if *full {
		fmt.Printf("\n%d processors, %s, Postgres with fsync, NATS with sync_interval always, all on this machine\n\n", runtime.NumCPU(), runtime.Version())
		fmt.Println(table.text())
		fmt.Println(table.markdown())
	}
}

// timed returns how long do takes. It starts from a heap without garbage, so that do does not pay for earlier work.
func timed(do func()) time.Duration {
	runtime.GC()
	began := time.Now()
	do()
	return time.Since(began)
}

func perSecond(events int, taken time.Duration) float64 { return float64(events) / taken.Seconds() }

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// pairwise returns the median ratio of each measured value to the floor that was measured next to it. A machine that slows down slows both.
func pairwise(measured, floor []float64) float64 {
	ratios := make([]float64, len(measured))
	for i := range ratios {
		ratios[i] = measured[i] / floor[i]
	}
	return median(ratios)
}
