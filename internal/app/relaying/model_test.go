package relaying_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func (h *harness) context() context.Context { return context.Background() }

// TestMain sets a random seed for the model, which its tests log. The flag -rapid.seed repeats the schedules of a seed.
func TestMain(m *testing.M) {
	flag.Parse()
	given := make(map[string]bool)
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	set := func(name, value string) {
		if !given[name] {
			if err := flag.Set(name, value); err != nil {
				panic(err)
			}
		}
	}
	set("rapid.seed", fmt.Sprint(time.Now().UnixNano()))
	set("rapid.checks", runs)
	set("rapid.nofailfile", "true")
	os.Exit(m.Run())
}

// TestModel checks that no event is lost, doubled or out of order, whatever happens. It runs random schedules of several relays between a
// log and a stream, in which each call can fail in each way, and checks what the stream holds in the end. If an action or a fault
// never happened, the test runs up to five times as many schedules, and fails if it still has not happened.
func TestModel(t *testing.T) {
	total := make(map[string]int)
	runAll := func() {
		t.Logf("seed %s", flag.Lookup("rapid.seed").Value)
		rapid.Check(t, func(rt *rapid.T) {
			failed, hits := runSchedule(t, schedules.Draw(rt, "plan"), nil)
			for what, times := range hits {
				total[what] += times
			}
			if len(failed) > 0 {
				rt.Fatal(describe(failed))
			}
		})
	}
	runAll()
	if underRace {
		return // too few runs for each pair of method and fault; `make test` has enough, without the race detector
	}
	seed, err := strconv.ParseUint(flag.Lookup("rapid.seed").Value.String(), 10, 64)
	require.NoError(t, err)
	for more := uint64(1); more < 5 && len(missing(total)) > 0; more++ {
		require.NoError(t, flag.Set("rapid.seed", fmt.Sprint(seed+more)))
		runAll()
	}
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%7d  %s", total[what], what)
	}
	require.Empty(t, missing(total), "never happened")
}

// missing returns the actions and faults that must happen in a model, and have not happened.
func missing(total map[string]int) []string {
	demanded := []string{
		"conflict", "stale revision", "refused", "late Publish took effect", "late Reconcile took effect", "foreign message",
		"stream regressed", "healed", "asked to redrive", "asked to redrive a group", "asked to discard",
		"asked to discard a choice", "purged", "a former leader answered",
		"misdirected", "adopted", "adopted a stream that was missing", "raised a stream", "an adoption came too late",
		"misled: the leader is gone: true", "misled: the leader is gone: false", "took a lease before it ended",
	}
	for _, method := range methods {
		for m := range faultKinds {
			demanded = append(demanded, method+": "+m.String())
		}
	}
	for _, what := range actions {
		demanded = append(demanded, "do "+what)
	}
	return slices.DeleteFunc(demanded, func(what string) bool { return total[what] > 0 })
}

// TestMutants checks that the model finds bugs. Each mutant breaks a promise of the relay's surroundings, as some other outboxes do.
// Each mutant names the check that must fail.
func TestMutants(t *testing.T) {
	for name, mutant := range map[string]struct {
		breaks func(*harness)
		check  string
		plans  *rapid.Generator[schedule]
	}{
		"compare-and-swap off": {func(h *harness) { h.publisher = anyTail{h.stream} }, checkOnce, schedules},
		"gap check off":        {func(h *harness) { h.reader = gapsIgnored{h.log, h.parking} }, checkLost, schedules},
		"fence off": {func(h *harness) {
			h.breakPorts = func(ports *relaying.Ports) {
				ports.Cursors, ports.Parking = unfencedCursors{ports.Cursors, unfenced{h}}, unfencedParking{ports.Parking, unfenced{h}}
			}
		}, checkOnce, lateReconciling},
		"former leaders are believed": {func(h *harness) {
			h.breakPorts = func(ports *relaying.Ports) { ports.Parking = trustingParking{ports.Parking} }
		}, checkOnce, formerLeaders},
		"take over from the cursor": {func(h *harness) { h.publisher = cursorAsTail{h.stream, h.cursors} }, checkOnce, schedules},
		"refusals confirm nothing":  {func(h *harness) { h.publisher = withoutConfirmations{h.stream} }, checkOnce, mixedLimits},
		"a halt keeps the lease":    {func(h *harness) { h.keepsLease = true }, checkLost, misdirections},
		"adoptions do not look again": {func(h *harness) {
			h.streamRepair = uncheckedStream{h.stream}
			h.relayRepair = func() operations.RelayRepair { return &staleRepair{RelayRepair: h.cursors} }
		}, checkOnce, adoptions},
	} {
		t.Run(name, func(t *testing.T) {
			const runs = 500
			for seed := range runs {
				p := mutant.plans.Example(seed)
				failed, _ := runSchedule(t, p, mutant.breaks)
				if _, noticed := failed[mutant.check]; noticed {
					sane, _ := runSchedule(t, p, nil)
					require.Empty(t, sane, "the same run without the mutant")
					t.Logf("noticed in run %d", seed)
					return
				}
			}
			t.Fatalf("check %q did not notice it in %d runs", mutant.check, runs)
		})
	}
}

// lateReconciling generates schedules with much parking and with late writes to the parking lot, which the fence must refuse.
var lateReconciling = schedulesOf([]string{
	"write", "poison", "widen", "redrive", "redrive", "pass", "start", "crash", "stall", "disturb", "reconcile late", "reconcile late",
})

// formerLeaders generates schedules with much redriving, in which brokers that have led the stream answer.
var formerLeaders = schedulesOf([]string{
	"write", "write", "poison", "widen", "redrive", "pass", "pass", "start", "stop", "former", "former",
})

// mixedLimits generates schedules with much late redriving, in which servers accept different sizes.
var mixedLimits = schedulesOf([]string{"poison", "widen", "redrive late", "redrive late", "narrow", "narrow", "wait", "wait"})

// misdirections generates schedules in which instances are connected to the wrong broker.
var misdirections = schedulesOf([]string{"write", "pass", "pass", "start", "misdirect", "misdirect", "crash"})

// adoptions generates schedules in which several operators repair at once.
var adoptions = schedulesOf([]string{"write", "pass", "pass", "start", "slow", "remake", "adopt", "adopt", "adopt"})

// cursorAsTail is a stream whose own messages all carry the progress of the cursor.
type cursorAsTail struct {
	relay.Publisher
	cursors relay.CursorStore
}

func (b cursorAsTail) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	if meta, err := b.Publisher.At(ctx, sequence); err != nil || !meta.Own {
		return meta, err
	}
	cursor, err := b.cursors.Load(ctx)
	return relay.MessageMeta{Own: true, Progress: cursor.Progress}, err
}

// TestTwoLeaders checks that each event is published once, in order, while every relay believes that it leads. The harness switches the
// check of the lease off.
func TestTwoLeaders(t *testing.T) {
	total := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		failed, hits := runSchedule(t, schedules.Draw(rt, "plan"), func(h *harness) { h.leaseless = true })
		for what, times := range hits {
			total[what] += times
		}
		if len(failed) > 0 {
			rt.Fatal(describe(failed))
		}
	})
	t.Logf("%d second leaders, %d conflicts", total["second leader"], total["conflict"])
	require.NotZero(t, total["second leader"])
	require.NotZero(t, total["conflict"])
}
