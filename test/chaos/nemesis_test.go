package chaos_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nemesis brings the faults of a schedule about, in the goroutine of the test.
type nemesis struct {
	*world
	schedule  *schedule
	diary     *os.File
	counts    map[kind]int
	spans     []span
	hit       map[*member]bool // by the fault that lasts
	effective map[kind]int     // of the early kinds: how often something came of them; guarded by mu
	mu        sync.Mutex
	moving    sync.WaitGroup // what operators do beside the faults
	repairing sync.Mutex     // held while an operator repairs a damage
	lots      []lotOf        // aggregates that were made to be parked and not looked after yet
}

// span is how long a fault lasted, until everything was started again.
type span struct {
	kind     kind
	from, to time.Time
}

func newNemesis(t *testing.T, w *world, seed uint64) *nemesis {
	t.Helper()
	diary, err := os.Create(filepath.Join(w.folder, "nemesis.log"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = diary.Close() })
	return &nemesis{
		world: w, schedule: newSchedule(seed, wanted()), diary: diary, counts: make(map[kind]int), hit: make(map[*member]bool),
		effective: make(map[kind]int),
	}
}

// wanted returns the kinds that were asked for.
func wanted() []card {
	only := regexp.MustCompile(*only)
	return slices.DeleteFunc(slices.Clone(deck), func(c card) bool {
		return !*parking && c.area == lot || !only.MatchString(string(c.kind))
	})
}

// tookEffect notes that something came of a fault of an early kind.
func (n *nemesis) tookEffect(k kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.effective[k]++
}

// short is the shortest run in which something comes of all early kinds.
const short = time.Minute

// ineffective returns the early kinds of which nothing came yet.
func (n *nemesis) ineffective() (left []card) {
	n.moving.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.schedule.cards {
		effective := n.effective[c.kind] > 0
		if c.kind == typeDeployed {
			effective = slices.ContainsFunc(n.groups, func(g *group) bool { return n.unhandled(g.id) > 0 })
		}
		if slices.Contains(early, c.kind) && !effective {
			left = append(left, c)
		}
	}
	return left
}

// insistOnEarly brings early kinds about again of which nothing came: other faults, or a busy machine, can be in their way.
func (n *nemesis) insistOnEarly(t *testing.T) {
	t.Helper()
	for range 3 {
		for _, c := range n.ineffective() {
			n.strike(t, []fault{n.schedule.of(c)})
		}
	}
	for _, c := range n.ineffective() {
		n.complain("%s: nothing came of it, %d times", c.kind, n.counts[c.kind])
	}
}

// rage goes on for the given time, and returns when everything is well again.
func (n *nemesis) rage(t *testing.T, duration time.Duration) {
	t.Helper()
	if len(n.schedule.cards) == 0 {
		pause(context.Background(), duration)
		return
	}
	for end, told := time.Now().Add(duration), time.Now(); time.Now().Before(end); {
		next := n.schedule.next()
		pause(context.Background(), next.calm)
		n.strike(t, next.faults)
		if now := time.Now(); now.Sub(told) > time.Minute && now.Before(end) {
			told = now
			t.Logf("%s left; so far %d orders; complaints: %q", end.Sub(now).Round(time.Second), n.ledger.Orders(), n.said())
		}
	}
	if duration >= short {
		n.insistOnEarly(t)
	}
}

// strike begins each fault, and ends each when its time has come. Then it starts again what has given up.
func (n *nemesis) strike(t *testing.T, faults []fault) {
	t.Helper()
	type pending struct {
		at   time.Time
		end  func()
		what span
	}
	var all []pending
	for _, f := range faults {
		begun := time.Now()
		end := n.begin(t, f)
		all = append(all, pending{at: time.Now().Add(f.hold), end: end, what: span{kind: f.kind, from: begun}})
		n.counts[f.kind]++
	}
	slices.SortFunc(all, func(a, b pending) int { return a.at.Compare(b.at) })
	for _, p := range all {
		pause(context.Background(), time.Until(p.at))
		p.end()
		p.what.to = time.Now()
		n.spans = append(n.spans, p.what)
		n.note("end of %s", p.what.kind)
	}
	clear(n.hit)
	for _, m := range slices.Concat(n.serving, n.subscribing) {
		require.NoError(t, m.revive())
	}
}

// note writes into the nemesis' diary.
func (n *nemesis) note(format string, v ...any) {
	_, _ = fmt.Fprintf(n.diary, "%s %s\n", time.Now().Format(time.StampMilli), fmt.Sprintf(format, v...))
}

// pick chooses a process for a fault: the one that leads, if it is meant, or any. One that is already hit is passed over.
func (n *nemesis) pick(f fault, among []*member) *member {
	if f.leader && f.area != subscribers {
		holder := n.holder()
		if at := slices.IndexFunc(among, func(m *member) bool { return m.name == holder && !n.hit[m] }); at >= 0 {
			n.hit[among[at]] = true
			return among[at]
		}
	}
	for i := range uint64(len(among)) {
		if m := among[(f.number+i)%uint64(len(among))]; !n.hit[m] {
			n.hit[m] = true
			return m
		}
	}
	return among[0] // two faults never hit everybody
}

// tell writes every pause into the diary, with what it is put down to.
func (n *nemesis) tell(gaps []gap) {
	for _, g := range gaps {
		n.note("%s stood still for %s from %s: %q", g.series, g.to.Sub(g.from).Round(time.Millisecond), g.from.Format(time.StampMilli), blamed(g, n.spans))
	}
}

// report is what happened, by kind.
func (n *nemesis) report(longest map[kind]map[string]time.Duration, series []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%-32s %6s", "fault", "times")
	for _, name := range series {
		fmt.Fprintf(&text, " %16s", name)
	}
	for _, k := range append(slices.Sorted(maps.Keys(n.counts)), calm) {
		times := ""
		if k != calm {
			times = fmt.Sprint(n.counts[k])
		}
		fmt.Fprintf(&text, "\n%-32s %6s", k, times)
		for _, name := range series {
			fmt.Fprintf(&text, " %16s", longest[k][name].Round(time.Millisecond))
		}
	}
	return text.String()
}

// complaints is what happened that never should, beside the checks.
type complaints struct {
	mu  sync.Mutex
	all []string
}

func (c *complaints) complain(format string, v ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, time.Now().Format(time.StampMilli)+" "+fmt.Sprintf(format, v...))
}

// said is all of it.
func (c *complaints) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.all, "\n")
}
