// Package e2e_test runs the real program as processes of its own, against real servers, the way an operator would.
package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m, func() { _ = os.RemoveAll(built) }) }

const patience = 30 * time.Second

// built is the folder that the program is built into, for all tests.
var built string

var build = sync.OnceValues(func() (binary string, err error) {
	if built, err = os.MkdirTemp("", "outboxie-e2e-"); err != nil {
		return "", err
	}
	binary = filepath.Join(built, "outboxie")
	output, err := exec.Command("go", "build", "-o", binary, "../../cmd/outboxie").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, output)
	}
	return binary, nil
})

// process is one run of the program. What it prints is kept.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   *output
	ended chan struct{}
	dir   string
	api   string
	admin string
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// launch starts the program; it is killed when the test ends, unless it ended before.
func launch(t *testing.T, environment []string, args ...string) *process {
	t.Helper()
	binary, err := build()
	require.NoError(t, err)
	p := &process{t: t, cmd: exec.Command(binary, args...), out: &output{}, ended: make(chan struct{}), dir: t.TempDir()}
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Dir = p.dir
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // the exit code is looked at by who expects one
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s\n%s", strings.Join(p.cmd.Args, " "), p.out)
		}
	})
	return p
}

// serve starts an instance and waits until it listens.
func serve(t *testing.T, id string, environment []string) *process {
	t.Helper()
	p := launch(t, append([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environment...), "serve")
	p.listens()
	return p
}

func (p *process) listens() {
	p.t.Helper()
	p.api = p.says("server=API addr=")
	p.admin = p.says(`server="admin listener" addr=`)
}

// says waits until the process has printed text, and returns the word that follows.
func (p *process) says(text string) string {
	p.t.Helper()
	var rest string
	require.Eventually(p.t, func() bool {
		_, after, found := strings.Cut(p.out.String(), text)
		rest = after
		return found && strings.Contains(after, "\n")
	}, patience, 5*time.Millisecond, "%s never said %q", p.cmd.Args, text)
	if words := strings.Fields(rest); len(words) > 0 {
		return words[0]
	}
	return ""
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// stop asks the process to end, and returns its exit code.
func (p *process) stop(signal syscall.Signal) int {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(signal))
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s did not stop", p.cmd.Args)
	}
	return p.cmd.ProcessState.ExitCode()
}

type placed struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Version int64  `json:"version"`
	traceID string
}

const customer = "550e8400-e29b-41d4-a716-446655440000"

// place posts an order as the README does.
func place(api string) (placed, error) {
	return call(http.MethodPost, "http://"+api+"/orders", fmt.Sprintf(`{"customer_id": %q, "amount": 100.50}`, customer), http.StatusCreated)
}

func transition(api, id, verb string) (placed, error) {
	return call(http.MethodPost, "http://"+api+"/orders/"+id+"/"+verb, "", http.StatusOK)
}

func call(method, url, body string, want int) (placed, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return placed{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return placed{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return placed{}, err
	}
	if answer.StatusCode != want {
		return placed{}, fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, text)
	}
	order := placed{traceID: answer.Header.Get("Trace-Id")}
	return order, json.Unmarshal(text, &order)
}
