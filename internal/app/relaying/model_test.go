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

// TestMain makes the model's seed known: run again with -rapid.seed to live the same lives.
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

// TestModel lives random lives of several relays between a log and a stream, with every call going wrong in every way,
// and judges what the stream holds in the end. A step that was never taken is a failure of the model; while one is missing,
// there are more lives, up to five times as many.
func TestModel(t *testing.T) {
	total := make(map[string]int)
	lead := func() {
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
	lead()
	if underRace {
		return // too few lives for every pair of call and mishap; `make test` lives the others without the detector
	}
	seed, err := strconv.ParseUint(flag.Lookup("rapid.seed").Value.String(), 10, 64)
	require.NoError(t, err)
	for more := uint64(1); more < 5 && len(missing(total)) > 0; more++ {
		require.NoError(t, flag.Set("rapid.seed", fmt.Sprint(seed+more)))
		lead()
	}
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%7d  %s", total[what], what)
	}
	require.Empty(t, missing(total), "never happened")
}

// missing is what a model has to live through and did not.
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

// TestMutants breaks the engine in the ways that other outboxes are broken, and demands that the model notices each one
// by the check that is named for it.
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

// lateSettling is lives with much parking, in which the parking lot is often settled late, by somebody else's leave or one's
// own: what the fence is for.
var lateReconciling = schedulesOf([]string{
	"write", "poison", "widen", "redrive", "redrive", "pass", "start", "crash", "stall", "disturb", "reconcile late", "reconcile late",
})

// formerLeaders is lives with much redriving, in which those who led the stream are often asked.
var formerLeaders = schedulesOf([]string{
	"write", "write", "poison", "widen", "redrive", "pass", "pass", "start", "stop", "former", "former",
})

// narrowServers is lives with much redriving, in which servers differ in what they take, and redriving is often late.
var mixedLimits = schedulesOf([]string{"poison", "widen", "redrive late", "redrive late", "narrow", "narrow", "wait", "wait"})

// misdirections is lives in which instances are connected to the wrong broker.
var misdirections = schedulesOf([]string{"write", "pass", "pass", "start", "misdirect", "misdirect", "crash"})

// adoptions is lives in which several operators repair at once.
var adoptions = schedulesOf([]string{"write", "pass", "pass", "start", "slow", "remake", "adopt", "adopt", "adopt"})

// believeCursor is a stream whose tail always says what the cursor says.
type cursorAsTail struct {
	relay.Publisher
	cursors relay.CursorStore
}

func (b cursorAsTail) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	if stamp, err := b.Publisher.At(ctx, sequence); err != nil || !stamp.Own {
		return stamp, err
	}
	cursor, err := b.cursors.Load(ctx)
	return relay.MessageMeta{Own: true, Progress: cursor.Progress}, err
}

// TestTwoLeaders switches the lease check off, so that every relay believes that it leads, all the time: each event still
// comes once, in order.
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
