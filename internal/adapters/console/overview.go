package console

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// overview is the data of the first page.
type overview struct {
	operations.View
	State       wording.RelayState
	Notice      wording.Notice
	More        []*wording.Notice
	Rows        [][2]string
	Last        operations.Point
	Subscribers []subscriberRow
	Charts      []chart
	Unread      bool   // there is no reading yet
	NoRight     string // why the subscribers cannot be read, and what cures that; empty: they were read
	Stale       string // why the newest reading failed, and how old the shown one is; empty: it did not fail
}

type subscriberRow struct {
	operations.SubscriberSummary
	State  string
	Behind string
	Good   bool
}

func (c *Console) serveOverview() {
	serve := func(w http.ResponseWriter, r *http.Request) error {
		view := c.recentView(r.Context())
		return c.show(w, r, "overview", http.StatusOK, c.newOverview(view, time.Now()))
	}
	c.get("", serve)
	c.get("/{$}", serve)
}

func (c *Console) newOverview(view operations.View, now time.Time) overview {
	shown := overview{View: view, Unread: view.At.IsZero()}
	if view.Err != nil {
		shown.Stale = c.explain(view.Err)
		if !shown.Unread {
			shown.Stale = fmt.Sprintf("%s. What is shown is %s old", shown.Stale, wording.Age(now.Sub(view.At)))
		}
	}
	if shown.Unread {
		return shown
	}
	if view.Unreadable != nil {
		shown.NoRight = c.explain(view.Unreadable)
	}
	shown.State, shown.Notice, shown.Rows = wording.StateOf(view.Relay), wording.DescribeRelay(view.Relay), wording.RelayRows(view.Relay)
	for _, more := range []*wording.Notice{wording.DescribeHaltedInstances(view.Relay), wording.DescribeOpenTransaction(view.Relay)} {
		if more != nil {
			shown.More = append(shown.More, more)
		}
	}
	if len(view.Points) > 0 {
		shown.Last = view.Points[len(view.Points)-1]
	}
	for _, s := range view.Subscribers {
		row := subscriberRow{SubscriberSummary: s, State: wording.DescribeSummary(s, view.Relay.Now), Behind: "unknown"}
		row.Good = row.State == string(wording.Working)
		if s.MessagesBehind != nil {
			row.Behind = fmt.Sprint(*s.MessagesBehind)
		}
		shown.Subscribers = append(shown.Subscribers, row)
	}
	shown.Charts = charts(view)
	return shown
}

// chart is a line over the last five minutes.
type chart struct {
	Title string
	Unit  string
	Most  string // the highest value
	Now   string // the newest value
	Line  string // points of an SVG polyline
}

// The size of a chart, in units of its SVG.
const (
	chartWidth  = 300
	chartHeight = 60
)

func charts(view operations.View) []chart {
	shown := []chart{
		newChart(view, "Events written", "/s", func(p operations.Point) float64 { return p.Written }),
		newChart(view, "Messages stored in the stream", "/s", func(p operations.Point) float64 { return p.Published }),
		newChart(view, "Backlog of the relay", " events", func(p operations.Point) float64 { return float64(p.Backlog) }),
	}
	for _, s := range view.Subscribers[:min(len(view.Subscribers), maxCharts)] {
		name := printable.Text(s.Subscriber)
		shown = append(shown,
			newChart(view, name+": applied", "/s", func(p operations.Point) float64 { return p.Applied[s.Subscriber] }),
			newChart(view, name+": messages behind", "", func(p operations.Point) float64 { return float64(p.Lags[s.Subscriber]) }))
	}
	return shown
}

// maxCharts is how many subscribers have charts.
const maxCharts = 6

func newChart(view operations.View, title, unit string, value func(operations.Point) float64) chart {
	highest, newest := 0.0, 0.0
	for _, p := range view.Points {
		newest = value(p)
		highest = max(highest, newest)
	}
	var line strings.Builder
	begin := view.At.Add(-5 * time.Minute)
	for _, p := range view.Points {
		x := p.At.Sub(begin).Seconds() / (5 * time.Minute).Seconds() * chartWidth
		y := chartHeight - 2 - value(p)/max(highest, 1)*(chartHeight-4)
		fmt.Fprintf(&line, "%.1f,%.1f ", max(x, 0), y)
	}
	return chart{Title: title, Unit: unit, Most: short(highest), Now: short(newest), Line: line.String()}
}

// short returns a figure with few digits.
func short(value float64) string {
	switch {
	case value >= 1e6:
		return fmt.Sprintf("%.1fM", value/1e6)
	case value >= 1e4:
		return fmt.Sprintf("%.0fk", value/1e3)
	case value >= 10 || value == float64(int64(value)):
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.1f", value)
}
