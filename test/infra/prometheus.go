package infra

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// PrometheusServer is a real Prometheus for one test. It scrapes, and evaluates its rules, every second.
type PrometheusServer struct {
	t      testing.TB
	url    string
	folder string // of its targets
}

// PrometheusTool returns the file of a program of Prometheus: prometheus or promtool. If the program is missing, the test fails and says
// what to install.
func PrometheusTool(t testing.TB, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	require.NoError(t, err,
		"%s is needed: apt-get install --no-install-recommends prometheus, or put https://prometheus.io/download into PATH", name)
	return file
}

// Prometheus starts a server with the rules of a file. The server scrapes nothing until Scrape is called. It ends with the test.
func Prometheus(t testing.TB, rules string) *PrometheusServer {
	t.Helper()
	folder, port := t.TempDir(), Port(t)
	rules, err := filepath.Abs(rules)
	require.NoError(t, err)
	config := filepath.Join(folder, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: all, authorization: {credentials: %q}, file_sd_configs: [{files: [%q]}]}]
`, rules, AdminToken, filepath.Join(folder, "*.json")), 0o600))
	p := &PrometheusServer{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", port), folder: folder}
	server := exec.Command(PrometheusTool(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(folder, "data"),
		fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port), "--log.level=warn")
	server.Stderr = os.Stderr
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	require.Eventually(t, func() bool {
		answer, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, waitTimeout, 50*time.Millisecond, "Prometheus is never ready")
	return p
}

// Scrape adds admin listeners as the targets of a job.
func (p *PrometheusServer) Scrape(job string, addresses ...string) {
	p.t.Helper()
	text, err := json.Marshal([]map[string]any{{"targets": addresses, "labels": map[string]string{"job": job}}})
	require.NoError(p.t, err)
	// The file is written under another name and then renamed. Otherwise Prometheus could read half of it.
	hidden := filepath.Join(p.folder, job+".new")
	require.NoError(p.t, os.WriteFile(hidden, text, 0o600))
	require.NoError(p.t, os.Rename(hidden, filepath.Join(p.folder, job+".json")))
}

// Query evaluates an expression now. It leaves out values that are not numbers, such as 0/0.
func (p *PrometheusServer) Query(expression string) (Samples, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(expression), &data); err != nil {
		return nil, err
	}
	var samples Samples
	for _, series := range data.Result {
		text, _ := series.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		if !math.IsNaN(value) {
			samples = append(samples, Sample{Name: series.Metric["__name__"], Labels: series.Metric, Value: value})
		}
	}
	return samples, nil
}

// Firing returns the labels of the alerts that fire.
func (p *PrometheusServer) Firing() ([]map[string]string, error) {
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	if err := p.get("/api/v1/alerts", &data); err != nil {
		return nil, err
	}
	var firing []map[string]string
	for _, alert := range data.Alerts {
		if alert.State == "firing" {
			firing = append(firing, alert.Labels)
		}
	}
	return firing, nil
}

func (p *PrometheusServer) get(path string, data any) error {
	answer, err := http.Get(p.url + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	envelope := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(answer.Body).Decode(&envelope); err != nil {
		return err
	}
	if envelope.Error != "" {
		return errors.New(envelope.Error)
	}
	return nil
}
