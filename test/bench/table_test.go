package bench_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"
)

// figure is a row of the table.
type figure struct {
	name       string
	measured   string
	floor      string  // what it is compared with, as measured in the same run
	ratio      float64 // what is judged
	unit       string  // of ratio and goal
	goal       float64 // 0: there is none, and no verdict
	upperBound bool    // the goal is an upper bound, not a lower one
}

func (f figure) met() bool {
	if f.upperBound {
		return f.ratio <= f.goal
	}
	return f.ratio >= f.goal
}

// farOff reports whether the figure does not reach even half of its goal.
func (f figure) farOff() bool {
	half := f
	if half.goal /= 2; f.upperBound {
		half.goal = 2 * f.goal
	}
	return f.goal > 0 && !half.met()
}

func (f figure) columns() []string {
	ratio, goal := "", ""
	if f.unit != "" {
		ratio = quantity(f.ratio, f.unit)
	}
	if f.goal > 0 {
		bound, verdict := "at least ", "missed"
		if f.upperBound {
			bound = "at most "
		}
		if f.met() {
			verdict = "met"
		}
		goal = bound + quantity(f.goal, f.unit) + ": " + verdict
	}
	return []string{f.name, f.measured, f.floor, ratio, goal}
}

func quantity(value float64, unit string) string {
	if unit == "%" {
		return fmt.Sprintf("%.0f %%", 100*value)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + cmp.Or(unit, "")
}

func (f figure) String() string { return strings.Join(f.columns(), " | ") }

type table []figure

var heading = []string{"figure", "measured", "floor in the same run", "ratio", "goal"}

func (t table) text() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, f := range t {
		fmt.Fprintln(w, strings.Join(f.columns(), "\t"))
	}
	_ = w.Flush() // into memory
	return text.String()
}

func (t table) markdown() string {
	line := func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }
	text := line(heading) + "|" + strings.Repeat("---|", len(heading)) + "\n"
	for _, f := range t {
		text += line(f.columns())
	}
	return text
}

// TestTable checks that the table shows each figure with its floor and marks those far from their goal.
func TestTable(t *testing.T) {
	for _, test := range []struct {
		figure      figure
		met, farOff bool
	}{
		{figure{ratio: 0.75, goal: 0.75}, true, false},
		{figure{ratio: 0.74, goal: 0.75}, false, false},
		{figure{ratio: 0.37, goal: 0.75}, false, true},
		{figure{ratio: 2, goal: 2, upperBound: true}, true, false},
		{figure{ratio: 2.1, goal: 2, upperBound: true}, false, false},
		{figure{ratio: 4.1, goal: 2, upperBound: true}, false, true},
		{figure{ratio: 0}, true, false},
	} {
		require.Equal(t, test.met, test.figure.met(), test.figure)
		require.Equal(t, test.farOff, test.figure.farOff(), test.figure)
	}
	rows := table{
		{name: "drain", measured: "50/s", floor: "60/s", ratio: 0.833, unit: "%", goal: 0.75},
		{name: "latency", measured: "3.0 ms", floor: "1.0 ms", ratio: 3, unit: "x", goal: 2, upperBound: true},
		{name: "WAL", measured: "900 bytes"},
	}
	require.Equal(t, "| figure | measured | floor in the same run | ratio | goal |\n|---|---|---|---|---|\n"+
		"| drain | 50/s | 60/s | 83 % | at least 75 %: met |\n"+
		"| latency | 3.0 ms | 1.0 ms | 3x | at most 2x: missed |\n"+
		"| WAL | 900 bytes |  |  |  |\n", rows.markdown())
	require.Contains(t, rows.text(), "drain    50/s       60/s")
}
