package e2e_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const dashboardFile = "../../docker/grafana/outboxie.json"

type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type, Query string }
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct{ RefID, Expr, LegendFormat string }
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var read dashboard
	require.NoError(t, json.Unmarshal(text, &read))
	require.NotEmpty(t, read.Panels)
	return read
}

// TestDashboardIsComplete checks that no panel of the dashboard would be empty or nameless in Grafana.
func TestDashboardIsComplete(t *testing.T) {
	read := readDashboard(t)
	require.Equal(t, "outboxie", read.UID)
	require.NotEmpty(t, read.Title)
	require.Positive(t, read.SchemaVersion)
	variables := make(map[string]string)
	for _, variable := range read.Templating.List {
		variables[variable.Name] = variable.Type + " " + variable.Query
	}
	require.Equal(t, map[string]string{
		"datasource": "datasource prometheus", "job": "query label_values(outboxie_nats_connected, job)",
		"relay": `query label_values(outboxie_relay_leader{job=~"$job"}, outboxie_relay)`,
	}, variables)
	ids, titles, taken := make(map[int]bool), make(map[string]bool), make(map[[2]int]string)
	for _, p := range read.Panels {
		require.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		require.NotEmpty(t, p.Title)
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				place := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Less(t, place[0], 24, "%q is too wide", p.Title)
				require.Empty(t, taken[place], "%q lies over another panel", p.Title)
				taken[place] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		require.False(t, titles[p.Title], "two panels have the title %q", p.Title)
		titles[p.Title] = true
		require.Contains(t, []string{"stat", "timeseries"}, p.Type)
		require.True(t, strings.HasSuffix(p.Description, "."), "%q has no description", p.Title)
		require.Equal(t, "prometheus ${datasource}", p.Datasource.Type+" "+p.Datasource.UID, p.Title)
		require.Contains(t, []string{"none", "s", "cps", "reqps", "percentunit", "bytes", "Bps"}, p.FieldConfig.Defaults.Unit, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for i, target := range p.Targets {
			require.Equal(t, string(rune('A'+i)), target.RefID, p.Title)
			require.NotEmpty(t, target.LegendFormat, p.Title)
			require.Contains(t, target.Expr, `{job=~"$job"`, "%q shows all jobs", p.Title)
		}
	}
}

// TestDashboard checks that every query of the dashboard, and every metric of the rules, returns a value from a real Prometheus that has
// scraped two instances and a subscriber. The rules themselves return nothing while all is well.
func TestDashboard(t *testing.T) {
	needsPrometheus(t)
	prometheus := infra.Prometheus(t, alertRules)
	w := newWatched(t, "SUBSCRIBER_MAX_ATTEMPTS=2")
	prometheus.Scrape("shop", w.leader, w.follower, w.emails)
	placeMany(t, w.api, 1)
	w.waitForSample(w.emails, 1, "outboxie_subscriber_latency_seconds_count", emails)
	eventually(t, func() bool { return measured(t, prometheus) }, "nothing is measured")
	// One event is too large for the broker, and one fails in the subscriber. Without them, some panels are empty.
	w.recordTooLarge()
	w.recordPoison()
	w.waitForSample(w.leader, 2, "outboxie_parking_events")
	w.waitForSample(w.emails, 1, "outboxie_subscriber_dead_letters", emails)

	expressions := make(map[string]string)
	for name := range catalog(t).kinds {
		for _, rule := range rules(t) {
			if strings.Contains(rule.Expr, name) {
				expressions[rule.Alert+": "+name] = name
			}
		}
	}
	require.GreaterOrEqual(t, len(expressions), len(rules(t)))
	variables := strings.NewReplacer("$job", ".*", "$relay", ".*", "$__rate_interval", "1m")
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			expressions[p.Title+": "+target.Expr] = variables.Replace(target.Expr)
		}
	}
	for began := time.Now(); len(expressions) > 0; time.Sleep(200 * time.Millisecond) {
		placeMany(t, w.api, 1)
		for name, expression := range expressions {
			samples, err := prometheus.Query(expression)
			require.NoError(t, err, name)
			if len(samples) > 0 {
				delete(expressions, name)
			}
		}
		require.Less(t, time.Since(began), waitTimeout, "these return nothing: %q", expressions)
	}
}
