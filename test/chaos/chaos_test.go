// Package chaos_test runs real processes under load while an injector kills, cuts and stalls them, and checks what they leave behind with
// outboxietest/checker, which shares no code with the engine. Run it with `make chaos DURATION=60s SEED=1`.
package chaos_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/infra"
)

var (
	duration = flag.Duration("duration", 20*time.Second, "how long faults are injected")
	seed     = flag.Uint64("seed", 0, "seed of the schedule of faults; 0: a random one")
	rate     = flag.Float64("rate", 40, "orders a second over the API; plain SQL adds about as many events")
	only     = flag.String("only", "", "a regular expression: the kinds of faults to bring about; empty: all")
	parking  = flag.Bool("parking", true, "write oversize events, and repair them")
	poison   = flag.Int("poison", 500, "one in N events of plain SQL can never be handled, and one in N fails for some seconds")
	keep     = flag.Bool("keep", false, "keep the logs of all processes when nothing failed, too")
)

func TestMain(m *testing.M) {
	brokerIfAsked()
	infra.Main(m)
}

const (
	httpWriters = 16
	sqlWriters  = 6

	// catchUpBound limits the time that relay and subscribers may take to catch up after the last fault.
	catchUpBound = time.Minute
)

// TestChaos checks that no event is lost, doubled or out of order, and that each subscriber applies each event once, while processes and
// servers fail. The same seed gives the same schedule of faults; how processes react is not deterministic.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64() >> 12 // fewer digits are easier to type
	}
	t.Logf("seed %d: repeat its schedule with make chaos SEED=%d", *seed, *seed)
	h := newHarness(t)
	h.awaitLanes(t)
	watcher := &watch{nc: h.nc, db: h.db, best: make(map[string]uint64), at: make(map[string]time.Time)}
	writers := startWriters(h, &watcher.tooFarBehind)
	watching, stopWatching := context.WithCancel(t.Context())
	var watched sync.WaitGroup
	watched.Go(func() { watcher.run(watching, h.groups) })
	watched.Go(func() { watcher.measure(watching, h.folder) })
	t.Cleanup(func() { writers.stop(0); stopWatching(); watched.Wait() })

	h.awaitFirst(t)
	h.leaveUnused(t)
	began := time.Now()
	in := newInjector(t, h, *seed)
	in.run(t, *duration)
	in.awaitRepairs(t)
	injected := time.Since(began)
	recovery := h.recover(t, writers)
	undecided := h.judge(t, recovery)
	if len(recovery.Behind) == 0 {
		recovery.Behind = h.decideAll(t)
	}
	stopWatching()
	watched.Wait()
	if len(recovery.Behind) == 0 {
		h.stop()
	}

	h.readLogs(t)
	gaps := slices.DeleteFunc(slices.Concat(watcher.gaps, watcher.machinePauses), func(g gap) bool { return g.to.After(h.arrived()) })
	in.logGaps(gaps)
	verdict := h.judge(t, recovery)
	series := append([]string{"stream", machine}, h.subscribers...)
	t.Logf("seed %d, %s of faults\n%s\n\n%s\n%s\n\n%s", *seed, injected.Round(time.Second), h.figures(t, writers),
		in.table(longest(gaps, in.spans), series), pauses(gaps, series), verdict)
	if failed := undecided.Failed(); len(failed) > 0 {
		t.Errorf("failed before anybody decided about dead letters: %v\n%s", failed, undecided)
	}
	if failed := verdict.Failed(); len(failed) > 0 {
		t.Errorf("failed: %v", failed)
	}
	if problems := h.text(); problems != "" {
		t.Errorf("problems that no check covers:\n%s", problems)
	}
}

// writerPool runs all writers: clients of the API, and programs that write with SQL of their own.
type writerPool struct {
	once    sync.Once
	ended   chan struct{} // closed: no new orders
	cancel  context.CancelFunc
	running sync.WaitGroup
	http    []*writer
}

func startWriters(h *harness, wait *atomic.Bool) *writerPool {
	ctx, cancel := context.WithCancel(context.Background())
	pool := &writerPool{ended: make(chan struct{}), cancel: cancel}
	source := rand.NewPCG(*seed, 1)
	transport := &http.Transport{MaxIdleConnsPerHost: httpWriters}
	random := func() *rand.Rand { return rand.New(rand.NewPCG(source.Uint64(), 0)) } //nolint:gosec // repeatable
	for number := range httpWriters {
		wr := &writer{
			number: number, instances: h.addresses(), client: &http.Client{Transport: transport}, ledger: h.ledger, random: random(),
			every: time.Duration(float64(time.Second) * httpWriters / *rate), reportProblem: h.report, wait: wait, deployed: &h.deployed,
		}
		binary.BigEndian.PutUint64(wr.customer[8:], uint64(number+100))
		pool.http = append(pool.http, wr)
		pool.running.Go(func() { wr.run(ctx, pool.ended) })
	}
	writing, stop := context.WithCancel(ctx)
	go func() { <-pool.ended; stop() }()
	for range sqlWriters {
		s := &sqlWriter{
			db: h.db, ledger: h.ledger, random: random(), every: time.Duration(float64(time.Second) * sqlWriters * 2 / *rate), wait: wait,
			deployed: &h.deployed,
		}
		pool.running.Go(func() { s.run(writing) })
	}
	return pool
}

// stop waits until every writer has finished its current command, at most for within. It reports whether all have finished.
func (pool *writerPool) stop(within time.Duration) bool {
	pool.once.Do(func() { close(pool.ended) })
	timer := time.AfterFunc(within, pool.cancel)
	pool.running.Wait()
	defer pool.cancel()
	return timer.Stop()
}

// awaitLanes waits until every subscriber has its lanes. On a busy machine so many processes take long to start.
func (h *harness) awaitLanes(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var begun int
		err := h.db.QueryRow("SELECT count(DISTINCT subscriber) FROM subscriber_lanes").Scan(&begun)
		return err == nil && begun == len(h.subscribers)
	}, 4*waitTimeout, 50*time.Millisecond, "not every subscriber begins: %s", h.folder)
}

// awaitFirst waits until every subscriber has applied an event, before the first fault.
func (h *harness) awaitFirst(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var applied int
		err := h.db.QueryRow("SELECT count(DISTINCT subscriber) FROM inbox").Scan(&applied)
		return err == nil && applied == len(h.subscribers)
	}, 4*waitTimeout, 50*time.Millisecond, "a subscriber applies nothing before the first fault: %s", h.folder)
}

// judge runs the checker on everything that the run left behind.
func (h *harness) judge(t *testing.T, recovery checker.Recovery) checker.Verdict {
	t.Helper()
	js, err := jetstream.New(h.nc)
	require.NoError(t, err)
	ctx := t.Context()
	verdict, err := checker.Verify(checker.History{
		Parked: checker.ReadParked(ctx, h.db), Log: checker.ReadLog(ctx, h.db), Stream: h.removed.with(ctx, js),
		Effects: checker.ReadEffects(ctx, h.db), Letters: checker.ReadLetters(ctx, h.db), Calls: h.receiver.calls(),
		Subscribers: h.subscribers, External: h.external(), Ledger: h.ledger.Ledger, Recovery: recovery,
		Service: ordercheck.New(h.ledger, ordercheck.ReadTotals(ctx, h.db), h.counting()...),
	})
	require.NoError(t, err)
	return verdict
}

// external returns the subscribers whose effects are calls.
func (h *harness) external() (ids []string) {
	for _, g := range h.groups {
		if g.external {
			ids = append(ids, g.id)
		}
	}
	return ids
}

// counting returns the subscribers that count totals: all others.
func (h *harness) counting() []string {
	return slices.DeleteFunc(slices.Clone(h.subscribers), func(id string) bool { return slices.Contains(h.external(), id) })
}

// figures describes how many orders, events, retries and calls the run had.
func (h *harness) figures(t *testing.T, c *writerPool) string {
	t.Helper()
	var events int
	parked := make(map[string]int)
	require.NoError(t, h.db.QueryRow("SELECT count(*) FROM outbox").Scan(&events))
	for p, err := range checker.ReadParked(t.Context(), h.db) {
		require.NoError(t, err)
		parked[p.State]++
	}
	retries, waited := 0, 0
	for _, wr := range c.http {
		retries, waited = retries+wr.retries, waited+wr.waited
	}
	committed, rolledBack := h.ledger.Transactions()
	return fmt.Sprintf("%d events: %d orders acknowledged over HTTP, %d events by plain SQL, %d more rolled back\n"+
		"%d requests tried again; %d orders not asked for because subscribers were far behind\n"+
		"%d events parked, %d redriven, %d discarded\n%s\n%s",
		events, h.ledger.Aggregates(), committed, rolledBack, retries, waited, parked["parked"], parked["redriven"], parked["discarded"],
		h.receiver.figures(), h.lagsAndLetters(t))
}

// lagsAndLetters returns how far each subscriber was behind when the faults ended, and how many letters it had.
func (h *harness) lagsAndLetters(t *testing.T) string {
	t.Helper()
	var lines []string
	for i, l := range h.lags {
		var letters, discarded int
		require.NoError(t, h.db.QueryRow("SELECT count(*) FROM checker_letters WHERE subscriber = $1", l.subscriber).Scan(&letters))
		require.NoError(t, h.db.QueryRow("SELECT count(*) FROM dead_letters WHERE subscriber = $1 AND state = 'discarded'", l.subscriber).Scan(&discarded))
		lines = append(lines, fmt.Sprintf("%s was %d messages behind when the faults ended, and at the end %s after the last event; %d events had letters, %d because they had no handler, "+
			"%d were discarded; %d came from the log",
			l.subscriber, l.messages, l.took.Round(10*time.Millisecond), letters, h.unhandled(l.subscriber), discarded, h.filled(h.groups[i])))
	}
	return strings.Join(lines, "\n")
}
