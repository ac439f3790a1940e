package e2e_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestAlertsAreValid checks that promtool accepts the rules, their tests, and the configuration that docs/metrics.md starts.
func TestAlertsAreValid(t *testing.T) {
	needsPrometheus(t)
	config, _ := documentedPrometheus(t, "127.0.0.1:8090")
	for _, arguments := range [][]string{
		{"check", "config", config},
		{"check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"},
		{"test", "rules", "alerts_test.yml"},
	} {
		tool := exec.Command(infra.PrometheusTool(t, "promtool"), arguments...)
		tool.Dir = filepath.Dir(alertRules)
		said, err := tool.CombinedOutput()
		require.NoError(t, err, "%s\n%s", arguments, said)
	}
}

// documentedPrometheus copies the folder with the Prometheus configuration that docs/metrics.md uses. It replaces the default address of the
// admin listener by admin. It returns the configuration file and the data folder where Prometheus reads the token.
func documentedPrometheus(t *testing.T, admin string) (config, data string) {
	t.Helper()
	root := t.TempDir()
	config, data = filepath.Join(root, "docker/prometheus/prometheus.yml"), filepath.Join(root, ".outboxie")
	require.NoError(t, os.CopyFS(filepath.Dir(config), os.DirFS(filepath.Dir(alertRules))))
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), "127.0.0.1:8090"))
	require.NoError(t, os.WriteFile(config, []byte(strings.Replace(string(text), "127.0.0.1:8090", admin, 1)), 0o600))
	require.NoError(t, os.Mkdir(data, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(data, "admin-token"), []byte(infra.AdminToken+"\n"), 0o600))
	return config, data
}

// TestAlertsAsDocumented checks that an instance with its default token lets in the Prometheus that docs/metrics.md starts.
func TestAlertsAsDocumented(t *testing.T) {
	needsPrometheus(t)
	admin, listen := fmt.Sprintf("127.0.0.1:%d", infra.Port(t)), fmt.Sprintf("127.0.0.1:%d", infra.Port(t))
	config, data := documentedPrometheus(t, admin)
	require.NoError(t, os.Remove(filepath.Join(data, "admin-token"))) // the instance makes it
	instance := infra.Launch(t, []string{
		"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=" + admin,
		"ADMIN_TOKEN=", "OUTBOXIE_DATA_DIR=" + data,
	}, "serve")
	instance.Admin()
	infra.Start(t, exec.Command(infra.PrometheusTool(t, "prometheus"), "--config.file="+config, "--web.listen-address="+listen,
		"--storage.tsdb.path="+t.TempDir()))
	query := "http://" + listen + "/api/v1/query?query=" + url.QueryEscape(`up{instance="`+admin+`"} == 1`)
	require.Eventually(t, func() bool {
		answer, err := http.Get(query) //nolint:noctx // bounded by the test
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return err == nil && strings.Contains(string(text), `"__name__":"up"`)
	}, waitTimeout, 100*time.Millisecond)
}

// TestAlertsAreTested checks that promtool's tests have for each alert a time at which it fires and one at which it does not, and that
// a test of this package provokes it.
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
	provoked := []string{
		"OutboxieInstanceHalted", // by TestMisdirectedInstance, without a Prometheus
		"OutboxieMessagesMissed", // by TestStreamRemovesWhatWasNotRead, because the alert ends only after an hour
	}
	for _, incident := range incidents {
		provoked = append(provoked, incident.alerts...)
	}
	require.ElementsMatch(t, provoked, names, "TestAlerts provokes each alert, once")
}
