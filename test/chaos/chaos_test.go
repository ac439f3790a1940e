// Package chaos_test lets real processes live through seeded faults, and has a checker that knows nothing of the engine
// judge what they leave behind.
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

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/test/infra"
)

var (
	duration = flag.Duration("duration", 20*time.Second, "how long the nemesis rages")
	seed     = flag.Uint64("seed", 0, "of the schedule of faults; 0: another one each time")
	rate     = flag.Float64("rate", 40, "orders a second over the API; plain SQL adds about as many events")
	only     = flag.String("only", "", "a regular expression: the kinds of faults to bring about; empty: all")
	parking  = flag.Bool("parking", true, "oversize events, and what is done about them")
	poison   = flag.Int("poison", 500, "one in so many events of plain SQL can never be handled, and as many not for some seconds")
	keep     = flag.Bool("keep", false, "keep the logs of all processes when nothing failed, too")
)

func TestMain(m *testing.M) {
	brokerIfAsked()
	infra.Main(m)
}

const (
	httpWriters = 16
	sqlWriters  = 6

	// catchUpBound is how long everybody may take to catch up after the last fault.
	catchUpBound = time.Minute
)

// TestChaos is one command: writers write, the nemesis rages, everybody catches up, the checker judges. The same seed
// gives the same schedule of faults; what processes do about it is not deterministic.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64() >> 12 // short enough to be passed on
	}
	t.Logf("seed %d: repeat its schedule with make chaos SEED=%d", *seed, *seed)
	w := newWorld(t)
	w.awaitBegun(t)
	watcher := &watch{nc: w.nc, db: w.db, best: make(map[string]uint64), at: make(map[string]time.Time)}
	writers := startWriters(w, &watcher.far)
	watching, stopWatching := context.WithCancel(t.Context())
	var watched sync.WaitGroup
	watched.Go(func() { watcher.run(watching, w.groups) })
	watched.Go(func() { watcher.measure(watching, w.folder) })
	t.Cleanup(func() { writers.stop(0); stopWatching(); watched.Wait() })

	w.awaitFirst(t)
	w.leaveUnused(t)
	began := time.Now()
	n := newNemesis(t, w, *seed)
	n.rage(t, *duration)
	n.awaitRepairs(t)
	raged := time.Since(began)
	recovery := w.recover(t, writers)
	undecided := w.judge(t, recovery)
	if len(recovery.Behind) == 0 {
		recovery.Behind = w.decideAll(t)
	}
	stopWatching()
	watched.Wait()
	if len(recovery.Behind) == 0 {
		w.stop()
	}

	w.readLogs(t)
	gaps := slices.DeleteFunc(slices.Concat(watcher.gaps, watcher.held), func(g gap) bool { return g.to.After(w.arrived()) })
	n.tell(gaps)
	verdict := w.judge(t, recovery)
	series := append([]string{"stream", machine}, w.subscribers...)
	t.Logf("seed %d, %s of faults\n%s\n\n%s\n%s\n\n%s", *seed, raged.Round(time.Second), w.figures(t, writers),
		n.report(longest(gaps, n.spans), series), pauses(gaps, series), verdict)
	if failed := undecided.Failed(); len(failed) > 0 {
		t.Errorf("failed before anybody decided about dead letters: %v\n%s", failed, undecided)
	}
	if failed := verdict.Failed(); len(failed) > 0 {
		t.Errorf("failed: %v", failed)
	}
	if said := w.said(); said != "" {
		t.Errorf("beside the checks:\n%s", said)
	}
}

// crowd is all writers.
type crowd struct {
	once    sync.Once
	ended   chan struct{} // closed: no new orders
	cancel  context.CancelFunc
	running sync.WaitGroup
	http    []*writer
}

func startWriters(w *world, wait *atomic.Bool) *crowd {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{ended: make(chan struct{}), cancel: cancel}
	source := rand.NewPCG(*seed, 1)
	transport := &http.Transport{MaxIdleConnsPerHost: httpWriters}
	random := func() *rand.Rand { return rand.New(rand.NewPCG(source.Uint64(), 0)) } //nolint:gosec // repeatable
	for number := range httpWriters {
		wr := &writer{
			number: number, instances: w.addresses(), client: &http.Client{Transport: transport}, ledger: w.ledger, random: random(),
			every: time.Duration(float64(time.Second) * httpWriters / *rate), complain: w.complain, wait: wait, deployed: &w.deployed,
		}
		binary.BigEndian.PutUint64(wr.customer[8:], uint64(number+100))
		c.http = append(c.http, wr)
		c.running.Go(func() { wr.run(ctx, c.ended) })
	}
	writing, stop := context.WithCancel(ctx)
	go func() { <-c.ended; stop() }()
	for range sqlWriters {
		s := &sqlWriter{
			db: w.db, ledger: w.ledger, random: random(), every: time.Duration(float64(time.Second) * sqlWriters * 2 / *rate), wait: wait,
			deployed: &w.deployed,
		}
		c.running.Go(func() { s.run(writing) })
	}
	return c
}

// stop lets every writer finish what it has in hand, for so long. It reports whether all did.
func (c *crowd) stop(within time.Duration) bool {
	c.once.Do(func() { close(c.ended) })
	timer := time.AfterFunc(within, c.cancel)
	c.running.Wait()
	defer c.cancel()
	return timer.Stop()
}

// awaitBegun waits until every subscriber has its lanes: on a busy machine so many processes take long to start.
func (w *world) awaitBegun(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var begun int
		err := w.db.QueryRow("SELECT count(DISTINCT subscriber) FROM subscriber_lanes").Scan(&begun)
		return err == nil && begun == len(w.subscribers)
	}, 4*patience, 50*time.Millisecond, "not every subscriber begins: %s", w.folder)
}

// awaitFirst waits until everything works for the first time.
func (w *world) awaitFirst(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var applied int
		err := w.db.QueryRow("SELECT count(DISTINCT subscriber) FROM inbox").Scan(&applied)
		return err == nil && applied == len(w.subscribers)
	}, 4*patience, 50*time.Millisecond, "nothing works, without any fault: %s", w.folder)
}

// judge has the checker read everything.
func (w *world) judge(t *testing.T, recovery checker.Recovery) checker.Verdict {
	t.Helper()
	js, err := jetstream.New(w.nc)
	require.NoError(t, err)
	ctx := t.Context()
	verdict, err := checker.Verify(checker.History{
		Parked: checker.ReadParked(ctx, w.db), Log: checker.ReadLog(ctx, w.db), Stream: w.removed.with(ctx, js),
		Effects: checker.ReadEffects(ctx, w.db), Letters: checker.ReadLetters(ctx, w.db), Totals: checker.ReadTotals(ctx, w.db),
		Calls: w.receiver.calls(), Subscribers: w.subscribers, External: w.external(), Ledger: w.ledger, Recovery: recovery,
	})
	require.NoError(t, err)
	return verdict
}

// external returns the subscribers whose effects are calls.
func (w *world) external() (ids []string) {
	for _, g := range w.groups {
		if g.external {
			ids = append(ids, g.id)
		}
	}
	return ids
}

// figures is how much there was.
func (w *world) figures(t *testing.T, c *crowd) string {
	t.Helper()
	var events int
	parked := make(map[string]int)
	require.NoError(t, w.db.QueryRow("SELECT count(*) FROM outbox").Scan(&events))
	for p, err := range checker.ReadParked(t.Context(), w.db) {
		require.NoError(t, err)
		parked[p.State]++
	}
	retries, waited := 0, 0
	for _, wr := range c.http {
		retries, waited = retries+wr.retries, waited+wr.waited
	}
	committed, rolledBack := w.ledger.Transactions()
	return fmt.Sprintf("%d events: %d orders acknowledged over HTTP, %d events by plain SQL, %d more rolled back\n"+
		"%d requests tried again; %d orders not asked for because subscribers were far behind\n"+
		"%d events parked, %d redriven, %d discarded\n%s\n%s",
		events, w.ledger.Orders(), committed, rolledBack, retries, waited, parked["parked"], parked["redriven"], parked["discarded"],
		w.receiver.figures(), w.lagsAndLetters(t))
}

// lagsAndLetters returns how far each subscriber was behind when the faults ended, and how many letters it had.
func (w *world) lagsAndLetters(t *testing.T) string {
	t.Helper()
	var lines []string
	for i, l := range w.lags {
		var letters, discarded int
		require.NoError(t, w.db.QueryRow("SELECT count(*) FROM checker_letters WHERE subscriber = $1", l.subscriber).Scan(&letters))
		require.NoError(t, w.db.QueryRow("SELECT count(*) FROM dead_letters WHERE subscriber = $1 AND state = 'discarded'", l.subscriber).Scan(&discarded))
		lines = append(lines, fmt.Sprintf("%s was %d messages behind when the faults ended, and at the end %s after the last event; %d events had letters, %d for want of a handler, "+
			"%d were discarded; %d came from the log",
			l.subscriber, l.messages, l.took.Round(10*time.Millisecond), letters, w.unhandled(l.subscriber), discarded, w.filled(w.groups[i])))
	}
	return strings.Join(lines, "\n")
}
