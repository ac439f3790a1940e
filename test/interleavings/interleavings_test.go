// Package interleavings_test runs each pair of the program's writes at the same time on a real Postgres, in every order of their statements
// that READ COMMITTED allows, and compares the outcome with the two serial orders. The model of the relay cannot do that, because its calls to
// the database are atomic.
//
// An operation is one call of a port, a use case, or a relay that runs until it has nothing to do. Each statement, each commit and each call to
// the stream is a step. A write without a transaction is two steps. A scheduler lets one step happen at a time. If a step waits for a lock, the
// other operation continues.
//
// To add an operation, add a line to one of the tables orderOperations, relayOperations, laneOperations, letterOperations, operatorOperations,
// formerOperations or wholeRelays: a name, the method of the port, and the call. It begins in the state normal unless it names another one. If
// the call only reads, add the method to the list reads instead. TestEveryMethodHasItsPlace fails until one of the two is done. Add a new port
// to the list driven, and the rows of a new table to a state.
//
// An interleaving is right if tables, stream and answers are those of a serial order, and all checks hold. An operation's line lists other
// answers that it may give, with the reason. The victim of a deadlock is tried again, as its caller would do, and that try is interleaved, too.
// Each side is the victim once. If a whole relay runs, only the checks decide: each take-over writes another cursor, so outcomes cannot be
// compared. One check lets further relays finish.
//
// After an operation of a subscriber a copy continues and redelivers every dead letter that it can. If this leads to the same rows as after a
// serial order, the outcome is right, too. The statements of former programs run beside those of the present one, as in a rolling update, but
// not beside each other. TestPlantedFaultsAreNoticed and TestRefusalWithoutANoticeIsNoticed check that each check can fail.
package interleavings_test

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

var (
	all      = flag.Bool("all", false, "every interleaving of each pair, not a sample")
	sample   = flag.Int("sample", 1, "how many interleavings of each pair to run; not with -all")
	share    = flag.Int("pairs", 300, "how many pairs to run, chosen at random; not with -all or -only")
	seed     = flag.Uint64("seed", 0, "seed of the sample; 0: made from the sources")
	matching = flag.String("only", "", "a regular expression for the pairs to run, which are named A | B; empty: all")
	most     = flag.Int("most", 4000, "most interleavings to explore for a pair; if the pair has more, a quarter of this number follows at random")
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

// TestInterleavings checks that each interleaving of each pair has the outcome of a serial order and keeps all promises, except for the known
// failures.
func TestInterleavings(t *testing.T) {
	if *seed == 0 {
		*seed = seedOfSources(t)
	}
	t.Logf("seed %d: repeat the sample with make interleavings ARGS='-all=false -seed=%d'", *seed, *seed)
	began := time.Now()
	harnesses := make([]*harness, runtime.GOMAXPROCS(0))
	for i := range harnesses {
		harnesses[i] = newHarness(t)
	}
	known, err := profiles(t.Context(), harnesses[0], allOperations)
	require.NoError(t, err)
	every := slices.DeleteFunc(pairs(allOperations, known), func(p *pair) bool { return !regexp.MustCompile(*matching).MatchString(p.String()) })
	if !*all && *matching == "" {
		every = chosen(every, rand.New(rand.NewPCG(*seed, 0)))
	}
	results := make([]result, len(every))
	next := make(chan int)
	var workers sync.WaitGroup
	for _, h := range harnesses {
		workers.Go(func() {
			for i := range next {
				results[i] = every[i].examine(t.Context(), h, known, rand.New(rand.NewPCG(*seed, uint64(i))))
				every[i].report(t, results[i])
			}
		})
	}
	for i, said := 0, began; i < len(every); i++ {
		if time.Since(said) > time.Minute {
			said = time.Now()
			t.Logf("%d of %d pairs", i, len(every))
		}
		next <- i
	}
	close(next)
	workers.Wait()
	t.Logf("%d operations, %s, %.0f s", len(allOperations), sum(every, results), time.Since(began).Seconds())
}

// seedOfSources returns a seed that changes with the statements and with this test. So the same sources always run the same sample, and a
// change cannot fail because of a pair that has nothing to do with it.
func seedOfSources(t *testing.T) uint64 {
	t.Helper()
	hash := fnv.New64a()
	for _, pattern := range []string{"*.go", "../../internal/adapters/postgres/*.go", "../../migrations/*/*.sql"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			_, _ = hash.Write(text) // a hash returns no error
		}
	}
	return hash.Sum64() >> 12 // fewer digits are easier to type
}

// chosen returns some of the pairs that have a table in common.
func chosen(every []*pair, rng *rand.Rand) []*pair {
	every = slices.DeleteFunc(every, func(p *pair) bool { return p.disjoint })
	rng.Shuffle(len(every), func(i, j int) { every[i], every[j] = every[j], every[i] })
	return every[:min(len(every), *share)]
}

// result is the outcome of a pair's interleavings.
type result struct {
	run int // interleavings

	whole     bool // all interleavings of the pair were run
	blocked   int  // interleavings in which a step waited for a lock
	deadlocks int
	took      time.Duration
	failed    map[string]failure // the first failure of each check
	err       error
}

type failure struct {
	detail string
	*history
}

// examine runs all interleavings of a pair, or a sample.
func (p *pair) examine(ctx context.Context, h *harness, known map[*operation]profile, rng *rand.Rand) result {
	r := result{failed: make(map[string]failure)}
	began := time.Now()
	defer func() { r.took = time.Since(began) }()
	if !*all && p.disjoint {
		return r
	}
	if r.err = p.prepare(ctx, h); r.err != nil {
		return r
	}
	runs := *sample
	switch {
	case p.disjoint: // in any order, each statement finds the same rows as alone
		runs = 1
	case *all && p.merges < 100*int64(*most):
		if p.explore(ctx, h, &r, int64(*most)); r.whole || r.err != nil {
			return r
		}
		fallthrough
	case *all:
		runs = r.run + *most/4
	}
	steps := [2]int{known[p.operations[0]].steps, known[p.operations[1]].steps}
	for r.run < runs || r.run < maxRuns && p.missing(r) {
		if r.err = p.try(ctx, h, &randomChooser{rng: rng, left: steps}, &r); r.err != nil {
			return r
		}
	}
	return r
}

// maxRuns limits how many interleavings are run until a pair fails that is known to fail.
const maxRuns = 2000

// missing reports whether the pair is known to fail and has not failed yet.
func (p *pair) missing(r result) bool {
	known, listed := knownFailures[p.String()]
	_, found := r.failed[known.check]
	return listed && !found
}

// explore runs every interleaving, at most bound. If interleavings differ only in the order of independent steps, explore runs one of them.
func (p *pair) explore(ctx context.Context, h *harness, r *result, bound int64) {
	e := explorer{reduced: true}
	for tried := int64(0); tried < bound; tried++ {
		if r.err = p.try(ctx, h, &e, r); r.err != nil {
			return
		}
		if !e.next() {
			r.whole = true
			return
		}
	}
}

func (p *pair) try(ctx context.Context, h *harness, choose chooser, r *result) error {
	hist, err := h.interleave(ctx, p.operations[0].state(), p.operations, choose)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if e, ok := choose.(*explorer); ok && e.redundant {
		return nil
	}
	r.run++
	r.deadlocks += hist.deadlocks
	if hist.blocked > 0 {
		r.blocked++
	}
	found, err := h.judge(ctx, p, hist)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	for _, v := range found {
		if _, before := r.failed[v.check]; !before {
			r.failed[v.check] = failure{v.detail, hist}
		}
	}
	return nil
}
