package chaos_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// noFault is the cause of a pause that began long after the last fault.
const noFault kind = "(no fault)"

const (
	pollInterval = 20 * time.Millisecond
	blameFor     = 5 * time.Second        // how long after its end a fault can cause a pause: the wait for an acknowledgement
	minPause     = 100 * time.Millisecond // anything shorter is the writers' normal rhythm
)

// gap is a time in which nothing new arrived.
type gap struct {
	series   string
	from, to time.Time
}

// watch polls how far the stream and each subscriber have come. Messages that repeat after the store was rolled back are not progress.
type watch struct {
	nc            *nats.Conn
	db            *sql.DB
	best          map[string]uint64
	at            map[string]time.Time
	gaps          []gap
	machinePauses []gap // caused by the machine; written by measure only
	tooFarBehind  atomic.Bool
}

// maxLag is how many events a subscriber may be behind before the writers wait for it. On a busy machine, writers are faster than subscribers.
// Without this limit, the time to catch up would measure only that difference. maxLagCalling is for external effects, which need a transaction
// for each event.
const (
	maxLag        = 1000
	maxLagCalling = 300
)

// run polls until ctx ends.
func (w *watch) run(ctx context.Context, subscribers []*group) {
	for pause(ctx, pollInterval) {
		behind := false
		var stream struct {
			State struct {
				Last uint64 `json:"last_seq"`
			} `json:"state"`
		}
		if w.ask(ctx, "$JS.API.STREAM.INFO.ORDERS", &stream) {
			w.saw("stream", stream.State.Last, time.Now())
		}
		for _, g := range subscribers {
			effects, sequence, err := w.progress(ctx, g.id)
			if err == nil {
				most := uint64(maxLag)
				if g.external {
					most = maxLagCalling
				}
				w.saw(g.id, effects, time.Now())
				behind = behind || stream.State.Last > sequence+most
			}
		}
		w.tooFarBehind.Store(behind)
	}
}

// progress returns the number of a subscriber's last effect, which grows with each, and the sequence that all of its lanes have passed.
func (w *watch) progress(ctx context.Context, subscriber string) (effects, sequence uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	err = w.db.QueryRowContext(ctx, `SELECT coalesce((SELECT max(number) FROM checker_effects WHERE subscriber = $1), 0),
		coalesce((SELECT min(sequence) FROM subscriber_lanes WHERE subscriber = $1), 0)`, subscriber).Scan(&effects, &sequence)
	return effects, sequence, err
}

// machine is the series of the machine's own pauses. A pause of another series proves nothing if it is not longer.
const machine = "machine"

// measure records a pause of the machine if a sleep, a write and its sync together take long. Such a pause delays everything else, too.
func (w *watch) measure(ctx context.Context, folder string) {
	file, err := os.CreateTemp(folder, "sync-")
	if err != nil {
		return
	}
	defer func() { _, _ = file.Close(), os.Remove(file.Name()) }()
	for began := time.Now(); pause(ctx, pollInterval); began = time.Now() {
		if _, err := file.WriteAt([]byte("x"), 0); err != nil || file.Sync() != nil {
			return
		}
		if now := time.Now(); now.Sub(began) >= minPause {
			w.machinePauses = append(w.machinePauses, gap{series: machine, from: began, to: now})
		}
	}
}

func (w *watch) ask(ctx context.Context, subject string, into any) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	reply, err := w.nc.RequestWithContext(ctx, subject, nil)
	return err == nil && json.Unmarshal(reply.Data, into) == nil
}

func (w *watch) saw(series string, reached uint64, at time.Time) {
	if reached <= w.best[series] {
		return
	}
	if last, before := w.at[series]; before && at.Sub(last) >= minPause {
		w.gaps = append(w.gaps, gap{series: series, from: last, to: at})
	}
	w.best[series], w.at[series] = reached, at
}

// pauses returns the longest pause of each series.
func pauses(gaps []gap, series []string) string {
	text := "longest pause:"
	for _, name := range series {
		most := time.Duration(0)
		for _, g := range gaps {
			if g.series == name {
				most = max(most, g.to.Sub(g.from))
			}
		}
		text += fmt.Sprintf(" %s %s", name, most.Round(time.Millisecond))
	}
	return text
}

// longest finds the faults that explain each gap, and returns the longest gap of each kind and series.
func longest(gaps []gap, spans []span) map[kind]map[string]time.Duration {
	found := make(map[kind]map[string]time.Duration)
	for _, g := range gaps {
		for _, k := range blamed(g, spans) {
			if found[k] == nil {
				found[k] = make(map[string]time.Duration)
			}
			found[k][g.series] = max(found[k][g.series], g.to.Sub(g.from))
		}
	}
	return found
}

// blamed returns the kinds of faults that cover most of the gap. Each fault counts until a lease's time to live after its end. If no fault
// overlaps the gap, blamed returns the last kind that ended shortly before.
func blamed(g gap, spans []span) []kind {
	const alike = 0.8 // a kind with this part of the greatest share is blamed, too
	shares := make(map[kind]time.Duration)
	var greatest time.Duration
	var before span
	for _, s := range spans {
		from, to := s.from, s.to.Add(leaseTTL)
		if from.Before(g.from) {
			from = g.from
		}
		if to.After(g.to) {
			to = g.to
		}
		share := to.Sub(from) // negative when they do not meet
		shares[s.kind], greatest = max(shares[s.kind], share), max(greatest, share)
		if !s.to.After(g.from) && g.from.Sub(s.to) < blameFor && s.to.After(before.to) {
			before = s
		}
	}
	var found []kind
	for k, share := range shares {
		if share > 0 && float64(share) >= alike*float64(greatest) {
			found = append(found, k)
		}
	}
	slices.Sort(found)
	switch {
	case len(found) > 0:
		return found
	case before.kind != "":
		return []kind{before.kind}
	}
	return []kind{noFault}
}

// TestFaultsExplainPauses checks that each pause is explained by the faults that overlap it, or by the last one before it.
func TestFaultsExplainPauses(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	w := watch{best: make(map[string]uint64), at: make(map[string]time.Time)}
	for _, seen := range []struct {
		seconds float64
		reached uint64
	}{
		{0, 10}, {0.05, 20}, {10, 21}, {10.05, 15}, {13, 22}, {13.05, 23}, {20, 24}, {25, 25}, {40, 26}, {41, 27}, {60, 28},
	} {
		w.saw("stream", seen.reached, at(seen.seconds))
	}
	spans := []span{
		{kind: natsKilled, from: at(0.1), to: at(2)},
		{kind: natsRolledBack, from: at(9.9), to: at(12)}, // these two were at once
		{kind: instanceKilled, from: at(9.95), to: at(11.5)},
		{kind: networkCut, from: at(15), to: at(16)},    // began in the middle of a gap, and has most of it
		{kind: networkSlow, from: at(19), to: at(19.5)}, // ended in one gap, and also explains the next gap
		{kind: postgresKilled, from: at(45), to: at(46)},
	}
	seconds := func(s float64) map[string]time.Duration {
		return map[string]time.Duration{"stream": time.Duration(s * float64(time.Second))}
	}
	require.Equal(t, map[kind]map[string]time.Duration{
		natsKilled: seconds(9.95), natsRolledBack: seconds(3), instanceKilled: seconds(3), networkCut: seconds(6.95),
		networkSlow: seconds(5), noFault: seconds(15), postgresKilled: seconds(19),
	}, longest(w.gaps, spans))
}
