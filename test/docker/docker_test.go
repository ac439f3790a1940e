// Package docker_test uses the files in docker/ as people do: with the commands of docs/manual-test.md, `docker compose` and `make`.
//
// With the flag -docker, which `make test-docker` sets, the tests use a Docker engine, in a separate project, but on the ports that
// docs/manual-test.md names. Without the flag, only the tests that need no engine run.
package docker_test

import (
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

var onEngine = flag.Bool("docker", false, "run on a Docker engine")

func TestMain(m *testing.M) { infra.Main(m) }

const (
	root        = "../.." // of the repository, where all commands run
	project     = "outboxie-test-docker"
	waitTimeout = 2 * time.Minute
)

// needEngine skips the test without the flag -docker. It removes everything that the test leaves in Docker.
func needEngine(t *testing.T) {
	t.Helper()
	if !*onEngine {
		t.Skip("needs a Docker engine: make test-docker")
	}
	remove := func() { succeed(t, "docker", "compose", "down", "--volumes", "--remove-orphans", "--timeout", "5") }
	remove()
	t.Cleanup(remove)
	_ = bearer(t) // makes the key that the containers need
}

// bearer returns the header with a token that the API in Docker accepts. Without an engine it is empty.
func bearer(t *testing.T) string {
	t.Helper()
	if !*onEngine {
		return ""
	}
	text, err := command([]string{"OUTBOXIE_DATA_DIR=.outboxie"}, infra.Binary(t), "token", "--service", "test").Output()
	require.NoError(t, err)
	return "Bearer " + strings.TrimSpace(string(text))
}

// command returns a command that runs in the root of the repository, with assignments added to its environment. The command does not get the
// variables of a `make` that runs this test.
func command(assignments []string, args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = root
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" && name != "ARGS" {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(append(cmd.Env, "COMPOSE_PROJECT_NAME="+project), assignments...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that it can be interrupted as from a terminal
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs a command to its end, and returns what it printed and its exit code.
func run(t *testing.T, cmd *exec.Cmd) (said string, code int) {
	t.Helper()
	began := time.Now()
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	t.Logf("%s: exit code %d after %.1f s\n%s", strings.Join(cmd.Args, " "), cmd.ProcessState.ExitCode(), time.Since(began).Seconds(), text)
	return string(text), cmd.ProcessState.ExitCode()
}

// succeed runs a command that must not fail.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	said, code := run(t, command(nil, args...))
	require.Zero(t, code)
	return said
}

// foreground is a command that runs until it is interrupted, such as `make run-distributed`.
type foreground struct {
	*infra.Process
	t   *testing.T
	cmd *exec.Cmd
}

func start(t *testing.T, cmd *exec.Cmd) foreground {
	t.Helper()
	f := foreground{infra.Start(t, cmd), t, cmd}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // runs first; nothing may be left
	return f
}

// interrupt does what Ctrl-C does, and waits until the command and all that it started have ended.
func (f foreground) interrupt() (code int) {
	f.t.Helper()
	require.NoError(f.t, syscall.Kill(-f.cmd.Process.Pid, syscall.SIGINT))
	code = f.Wait()
	f.requireNobodyLeft()
	return code
}

func (f foreground) requireNobodyLeft() {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return syscall.Kill(-f.cmd.Process.Pid, 0) != nil }, waitTimeout, 20*time.Millisecond,
		"%s left a process behind", f.cmd.Args)
}

// place posts an order, as the README does, and returns its id. The API in Docker needs a token; the processes of `make` do not ask for one.
func place(t *testing.T, port int) string {
	t.Helper()
	answer, text := call(t, http.MethodPost, port, "/orders", `{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 100.50}`, bearer(t))
	require.Equal(t, http.StatusCreated, answer.StatusCode, text)
	return strings.TrimPrefix(answer.Header.Get("Location"), "/orders/")
}

// call sends a request to an API, and returns the answer and its body.
func call(t *testing.T, method string, port int, path, body, token string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:"+strconv.Itoa(port)+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", token)
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer, string(text)
}
