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

// injector causes the faults of a schedule, in the goroutine of the test.
type injector struct {
	*harness
	schedule  *schedule
	log       *os.File
	counts    map[kind]int
	spans     []span
	hit       map[*member]bool // processes that a current fault affects
	effective map[kind]int     // of the early kinds: how often a fault had an effect; guarded by mu
	mu        sync.Mutex
	moving    sync.WaitGroup  // commands that operators run while faults go on
	repairing sync.Mutex      // held while an operator repairs a damaged stream or sequence
	oversized []oversizeOrder // orders with an oversize event, not repaired yet
}

// span is the time that a fault lasted, from its start until everything was started again.
type span struct {
	kind     kind
	from, to time.Time
}

func newInjector(t *testing.T, h *harness, seed uint64) *injector {
	t.Helper()
	log, err := os.Create(filepath.Join(h.folder, "faults.log"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close() })
	return &injector{
		harness: h, schedule: newSchedule(seed, selectedTypes()), log: log, counts: make(map[kind]int), hit: make(map[*member]bool),
		effective: make(map[kind]int),
	}
}

// selectedTypes returns the fault types that the flags select.
func selectedTypes() []faultType {
	only := regexp.MustCompile(*only)
	return slices.DeleteFunc(slices.Clone(faultTypes), func(t faultType) bool {
		return !*parking && t.area == parkingLot || !only.MatchString(string(t.kind))
	})
}

// tookEffect counts a fault of an early kind that had an effect.
func (in *injector) tookEffect(k kind) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.effective[k]++
}

// fullRun is the shortest run in which all early kinds must have an effect.
const fullRun = time.Minute

// ineffective returns the early kinds that had no effect yet.
func (in *injector) ineffective() (left []faultType) {
	in.moving.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, c := range in.schedule.types {
		effective := in.effective[c.kind] > 0
		if c.kind == typeDeployed {
			effective = slices.ContainsFunc(in.groups, func(g *group) bool { return in.unhandled(g.id) > 0 })
		}
		if slices.Contains(earlyKinds, c.kind) && !effective {
			left = append(left, c)
		}
	}
	return left
}

// repeatIneffective injects the early kinds that had no effect again. Other faults, or a busy machine, can prevent the effect.
func (in *injector) repeatIneffective(t *testing.T) {
	t.Helper()
	for range 3 {
		for _, c := range in.ineffective() {
			in.inject(t, []fault{in.schedule.drawOf(c)})
		}
	}
	for _, c := range in.ineffective() {
		in.report("%s: %d faults had no effect", c.kind, in.counts[c.kind])
	}
}

// run injects faults for the given time. It returns when the last one has ended.
func (in *injector) run(t *testing.T, duration time.Duration) {
	t.Helper()
	if len(in.schedule.types) == 0 {
		pause(context.Background(), duration)
		return
	}
	for end, logged := time.Now().Add(duration), time.Now(); time.Now().Before(end); {
		next := in.schedule.next()
		pause(context.Background(), next.calm)
		in.inject(t, next.faults)
		if now := time.Now(); now.Sub(logged) > time.Minute && now.Before(end) {
			logged = now
			t.Logf("%s left; so far %d orders; problems: %q", end.Sub(now).Round(time.Second), in.ledger.Aggregates(), in.text())
		}
	}
	if duration >= fullRun {
		in.repeatIneffective(t)
	}
}

// inject begins all faults, ends each when its time is over, and then restarts the processes that gave up.
func (in *injector) inject(t *testing.T, faults []fault) {
	t.Helper()
	type pending struct {
		at   time.Time
		end  func()
		what span
	}
	var all []pending
	for _, f := range faults {
		begun := time.Now()
		end := in.begin(t, f)
		all = append(all, pending{at: time.Now().Add(f.hold), end: end, what: span{kind: f.kind, from: begun}})
		in.counts[f.kind]++
	}
	slices.SortFunc(all, func(a, b pending) int { return a.at.Compare(b.at) })
	for _, p := range all {
		pause(context.Background(), time.Until(p.at))
		p.end()
		p.what.to = time.Now()
		in.spans = append(in.spans, p.what)
		in.note("end of %s", p.what.kind)
	}
	clear(in.hit)
	for _, m := range slices.Concat(in.serving, in.subscribing) {
		require.NoError(t, m.restartIfGaveUp())
	}
}

// note writes into the log of faults.
func (in *injector) note(format string, v ...any) {
	_, _ = fmt.Fprintf(in.log, "%s %s\n", time.Now().Format(time.StampMilli), fmt.Sprintf(format, v...))
}

// pick chooses a process for a fault: the leader, if the fault asks for it, or any other. It skips processes that another fault affects.
func (in *injector) pick(f fault, among []*member) *member {
	if f.leader && f.area != subscribers {
		holder := in.holder()
		if at := slices.IndexFunc(among, func(m *member) bool { return m.name == holder && !in.hit[m] }); at >= 0 {
			in.hit[among[at]] = true
			return among[at]
		}
	}
	for i := range uint64(len(among)) {
		if m := among[(f.number+i)%uint64(len(among))]; !in.hit[m] {
			in.hit[m] = true
			return m
		}
	}
	return among[0] // two faults never affect all processes
}

// logGaps writes every pause into the log, with the faults that explain it.
func (in *injector) logGaps(gaps []gap) {
	for _, g := range gaps {
		in.note("%s stood still for %s from %s: %q", g.series, g.to.Sub(g.from).Round(time.Millisecond), g.from.Format(time.StampMilli), blamed(g, in.spans))
	}
}

// table lists how often each kind came, and the longest pause of each series that it explains.
func (in *injector) table(longest map[kind]map[string]time.Duration, series []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%-32s %6s", "fault", "times")
	for _, name := range series {
		fmt.Fprintf(&text, " %16s", name)
	}
	for _, k := range append(slices.Sorted(maps.Keys(in.counts)), noFault) {
		times := ""
		if k != noFault {
			times = fmt.Sprint(in.counts[k])
		}
		fmt.Fprintf(&text, "\n%-32s %6s", k, times)
		for _, name := range series {
			fmt.Fprintf(&text, " %16s", longest[k][name].Round(time.Millisecond))
		}
	}
	return text.String()
}

// problems collects what must never happen and is not part of the checks.
type problems struct {
	mu  sync.Mutex
	all []string
}

func (p *problems) report(format string, v ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, time.Now().Format(time.StampMilli)+" "+fmt.Sprintf(format, v...))
}

// text returns all problems, one a line.
func (p *problems) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.all, "\n")
}
