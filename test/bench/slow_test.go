package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// The slow handler, and the copies that run it.
const (
	handlerTakes = 10 * time.Millisecond
	slowLanes    = 64
	slowPool     = slowLanes + otherConnections
	window       = 500 * time.Millisecond // in which the shares of copies are counted
	fairShare    = 0.2                    // of three copies, each has at least this
)

// measureSlow lets one copy apply events whose handler is slow, adds two more copies, and measures how soon they have their shares. A while
// later, when their connections have been used, it measures what all three apply. The stream must have more events than the copies apply.
// Before and afterwards, measureSlow applies the same effects one at a time, as the floor.
func measureSlow(t *testing.T, size scale, db *sql.DB, database, broker string, connection *pgx.Conn) []figure {
	t.Helper()
	reset(t, db)
	ordinary := setting{
		database: database, broker: broker, id: "slow", lanes: slowLanes, connections: slowPool, handler: slowly(handlerTakes),
	}
	next := func(number int) *runningCopy {
		s := ordinary
		s.instance = "copy" + strconv.Itoa(number)
		return startCopy(t, s)
	}
	alone := []float64{applyAlone(t, connection, size.singly)}
	copies := []*runningCopy{next(0)}
	awaitApplied(t, 64*slowLanes, copies...) // connections are open, and the size of batches is known
	one := rateOf(size.slow, copies...)

	began := time.Now()
	copies = append(copies, next(1), next(2))
	for appliedBy(copies...) < size.slowEvents && slices.Min(shares(copies...)) < fairShare {
		require.Less(t, time.Since(began), waitTimeout, "the late copies have no share")
	}
	late := max(time.Since(began)-window, 0)
	time.Sleep(size.settle)
	before := counts(copies...)
	three := rateOf(size.slow, copies...)
	split := sharesSince(before, copies...)
	require.Less(t, appliedBy(copies...), size.slowEvents-slowLanes, "the stream is too short for this machine: these copies were at its end")
	most := int64(0)
	for _, c := range copies {
		c.stop()
		most = max(most, c.most.Load())
	}
	alone = append(alone, applyAlone(t, connection, size.singly))
	floor := fmt.Sprintf("one at a time: %.0f/s", median(alone))
	name := fmt.Sprintf("effects of a handler of %v, %d lanes, ", handlerTakes, slowLanes)
	return []figure{
		{name: name + "1 copy", measured: fmt.Sprintf("%.0f/s", one), floor: floor, ratio: one / median(alone), unit: "x", goal: 40},
		{name: name + "3 copies", measured: fmt.Sprintf("%.0f/s", three), floor: floor, ratio: three / median(alone), unit: "x", goal: 40},
		{
			name: "the same, how the 3 copies share the work", measured: percentages(split), floor: "the smallest share",
			ratio: slices.Min(split), unit: "%", goal: fairShare,
		},
		{
			name: "the same, until 2 late copies have a fifth each, their start included", measured: fmt.Sprintf("%.1f s", late.Seconds()),
			ratio: late.Seconds(), unit: " s", goal: 5, upperBound: true,
		},
		{
			name: "the same, transactions under way in one copy", measured: fmt.Sprintf("%d at most", most),
			floor: fmt.Sprintf("its pool: %d connections", slowPool), ratio: float64(most), unit: "", goal: slowLanes, upperBound: true,
		},
	}
}

// rateOf returns how many events copies apply in a second.
func rateOf(during time.Duration, copies ...*runningCopy) float64 {
	began, before := time.Now(), appliedBy(copies...)
	time.Sleep(during)
	return perSecond(appliedBy(copies...)-before, time.Since(began))
}

// shares returns which part of the events each copy applies within a window.
func shares(copies ...*runningCopy) []float64 {
	before := counts(copies...)
	time.Sleep(window)
	return sharesSince(before, copies...)
}

func counts(copies ...*runningCopy) []int {
	found := make([]int, len(copies))
	for i, c := range copies {
		found[i] = appliedBy(c)
	}
	return found
}

func sharesSince(before []int, copies ...*runningCopy) []float64 {
	now, total := counts(copies...), 0
	for i := range now {
		now[i] -= before[i]
		total += now[i]
	}
	found := make([]float64, len(copies))
	for i := range found {
		found[i] = float64(now[i]) / float64(max(total, 1))
	}
	return found
}

func percentages(shares []float64) string {
	text := ""
	for i, share := range shares {
		if i > 0 {
			text += ", "
		}
		text += quantity(share, "%")
	}
	return text
}

// applyAlone applies this number of events one after the other, each in a transaction of its own, with a handler that is slow. It returns the
// events per second.
func applyAlone(t *testing.T, connection *pgx.Conn, events int) float64 {
	t.Helper()
	return perSecond(events, timed(func() {
		for number := range events {
			require.NoError(t, pgx.BeginFunc(t.Context(), connection, func(tx pgx.Tx) error {
				time.Sleep(handlerTakes)
				return writeOne(context.Background(), tx, int64(number))
			}))
		}
	}))
}
