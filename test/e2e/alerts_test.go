package e2e_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const alertRules = "../../docker/prometheus/alerts.yml"

var withPrometheus = flag.Bool("prometheus", false, "run the tests that need prometheus and promtool, as make test-alerts does")

func needsPrometheus(t *testing.T) {
	t.Helper()
	if !*withPrometheus {
		t.Skip("`make test-alerts` runs it")
	}
}

// rule is an alert of alerts.yml.
type rule struct{ Alert, Expr string }

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}

func rules(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	readYAML(t, alertRules, &file)
	require.Len(t, file.Groups, 1)
	require.NotEmpty(t, file.Groups[0].Rules)
	return file.Groups[0].Rules
}

// TestAlertsAreValid has promtool judge rules, their tests, and the configuration that the README starts.
func TestAlertsAreValid(t *testing.T) {
	needsPrometheus(t)
	for _, arguments := range [][]string{
		{"check", "config", "prometheus.yml"},
		{"check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"},
		{"test", "rules", "alerts_test.yml"},
	} {
		tool := exec.Command(infra.PrometheusTool(t, "promtool"), arguments...)
		tool.Dir = filepath.Dir(alertRules)
		said, err := tool.CombinedOutput()
		require.NoError(t, err, "%s\n%s", arguments, said)
	}
}

// TestAlertsAreTested : promtool's tests have for each alert a time at which it fires and one at which it does not, and
// TestAlerts provokes it.
func TestAlertsAreTested(t *testing.T) {
	var file struct {
		Tests []struct {
			Cases []struct {
				Alert  string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, strings.TrimSuffix(alertRules, ".yml")+"_test.yml", &file)
	fires, rests := make(map[string]bool), make(map[string]bool)
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			if len(c.Expect) > 0 {
				fires[c.Alert] = true
			} else {
				rests[c.Alert] = true
			}
		}
	}
	var names []string
	for _, rule := range rules(t) {
		require.True(t, fires[rule.Alert], "no test of promtool lets %s fire", rule.Alert)
		require.True(t, rests[rule.Alert], "no test of promtool lets %s rest", rule.Alert)
		names = append(names, rule.Alert)
	}
	provoked := []string{"OutboxieInstanceHalted"} // by TestMisdirectedInstance, without a Prometheus
	for _, incident := range incidents {
		provoked = append(provoked, incident.alerts...)
	}
	require.ElementsMatch(t, provoked, names, "TestAlerts provokes each alert, once")
}
