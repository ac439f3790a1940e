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

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func (w *world) context() context.Context { return context.Background() }

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
	set("rapid.checks", lives)
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
			failed, hits := live(t, plans.Draw(rt, "plan"), nil)
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
		"conflict", "out of turn", "refused", "late Publish took effect", "late Settle took effect", "foreign message",
		"stream regressed", "healed", "asked to redrive", "asked to redrive a group", "asked to discard",
		"asked to discard a choice", "purged", "a former leader answered",
		"misdirected", "adopted", "adopted a stream that was missing", "raised a stream", "an adoption came too late",
		"misled: the leader is gone: true", "misled: the leader is gone: false", "took a lease before it ended",
	}
	for _, method := range methods {
		for m := range mishaps {
			demanded = append(demanded, method+": "+m.String())
		}
	}
	for _, what := range deeds {
		demanded = append(demanded, "do "+what)
	}
	return slices.DeleteFunc(demanded, func(what string) bool { return total[what] > 0 })
}

// TestMutants breaks the engine in the ways that other outboxes are broken, and demands that the model notices each one
// by the check that is named for it.
func TestMutants(t *testing.T) {
	for name, mutant := range map[string]struct {
		breaks func(*world)
		check  string
		plans  *rapid.Generator[plan]
	}{
		"compare-and-swap off":        {func(w *world) { w.stream.IgnoreTail() }, checkTwice, plans},
		"gap check off":               {func(w *world) { w.log.IgnoreOpenWriters() }, checkLost, plans},
		"fence off":                   {func(w *world) { w.cursors.IgnoreTurns() }, checkTwice, lateSettling},
		"former leaders are believed": {func(w *world) { w.parking.BelieveEnds() }, checkTwice, formerLeaders},
		"take over from the cursor":   {func(w *world) { w.publisher = believeCursor{w.stream, w.cursors} }, checkTwice, plans},
		"refusals confirm nothing":    {func(w *world) { w.publisher = unconfirmed{w.stream} }, checkTwice, narrowServers},
		"a halt keeps the lease":      {func(w *world) { w.keepsLease = true }, checkLost, misdirections},
		"adoptions do not look again": {func(w *world) {
			w.repair = credulous{w.stream}
			w.bench = func() operations.RelayRepair { return &staleBench{RelayRepair: w.cursors} }
		}, checkTwice, adoptions},
	} {
		t.Run(name, func(t *testing.T) {
			const lives = 500
			for seed := range lives {
				p := mutant.plans.Example(seed)
				failed, _ := live(t, p, mutant.breaks)
				if _, noticed := failed[mutant.check]; noticed {
					sane, _ := live(t, p, nil)
					require.Empty(t, sane, "the same life without the mutant")
					t.Logf("noticed in life %d", seed)
					return
				}
			}
			t.Fatalf("check %q did not notice it in %d lives", mutant.check, lives)
		})
	}
}

// lateSettling is lives with much parking, in which the parking lot is often settled late, by somebody else's leave or one's
// own: what the fence is for.
var lateSettling = plansOf([]string{
	"write", "poison", "widen", "redrive", "redrive", "pass", "start", "crash", "stall", "misfortune", "settle late", "settle late",
})

// formerLeaders is lives with much redriving, in which those who led the stream are often asked.
var formerLeaders = plansOf([]string{
	"write", "write", "poison", "widen", "redrive", "pass", "pass", "start", "stop", "former", "former",
})

// narrowServers is lives with much redriving, in which servers differ in what they take, and redriving is often late.
var narrowServers = plansOf([]string{"poison", "widen", "redrive late", "redrive late", "narrow", "narrow", "wait", "wait"})

// misdirections is lives in which instances are connected to the wrong broker.
var misdirections = plansOf([]string{"write", "pass", "pass", "start", "misdirect", "misdirect", "crash"})

// adoptions is lives in which several operators repair at once.
var adoptions = plansOf([]string{"write", "pass", "pass", "start", "slow", "remake", "adopt", "adopt", "adopt"})

// believeCursor is a stream whose tail always says what the cursor says.
type believeCursor struct {
	relay.Publisher
	cursors relay.CursorStore
}

func (b believeCursor) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
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
		failed, hits := live(t, plans.Draw(rt, "plan"), func(w *world) { w.leaseless = true })
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
