package infra

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// waitTimeout bounds every wait for a program.
const waitTimeout = 30 * time.Second

// program has the folder of this repository's programs. They are built once for all tests of a process.
var program = struct {
	once   sync.Once
	folder string
	failed error
}{}

// Binary returns the file of the program outboxie, for tests that start it themselves.
func Binary(t testing.TB) string {
	t.Helper()
	return filepath.Join(programs(t), "outboxie")
}

// Playground returns the file of the program playground.
func Playground(t testing.TB) string {
	t.Helper()
	return filepath.Join(programs(t), "playground")
}

func programs(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		program.folder, program.failed = os.MkdirTemp("", "outboxie-program-") //nolint:usetesting // shared by all tests of the process
		if program.failed != nil {
			return
		}
		build := exec.Command("go", "build", "-o", program.folder, "github.com/assylzhan-a/outboxie/cmd/...")
		if said, err := build.CombinedOutput(); err != nil {
			program.failed = fmt.Errorf("build the programs: %w\n%s", err, said)
		}
	})
	require.NoError(t, program.failed)
	return program.folder
}

// Process is one run of outboxie or of another program. Process keeps the output, and shows it if the test fails.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	ended  chan struct{}
	output Buffer
}

// AdminToken is the token of the admin listeners in tests.
const AdminToken = "0123456789abcdef"

// Launch starts outboxie in an empty folder. The program gets the variables of the test, AdminToken, and the variables in environment. It is
// killed when the test ends, unless it has ended before.
func Launch(t testing.TB, environment []string, args ...string) *Process {
	t.Helper()
	return launch(t, Binary(t), environment, args)
}

// LaunchPlayground is like Launch, for the program playground.
func LaunchPlayground(t testing.TB, environment []string, args ...string) *Process {
	t.Helper()
	return launch(t, Playground(t), environment, args)
}

func launch(t testing.TB, program string, environment, args []string) *Process {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = slices.Concat(os.Environ(), []string{"ADMIN_TOKEN=" + AdminToken}, environment), t.TempDir()
	return Start(t, cmd)
}

// Start starts a command that the test has made. The command is killed when the test ends, unless it has ended before.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // Wait and Stop return the exit code
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s\n%s", strings.Join(p.cmd.Args, " "), p)
		}
	})
	return p
}

// String returns the program's output so far.
func (p *Process) String() string { return p.output.String() }

// WaitFor waits until the program has printed text, and returns the word that follows text.
func (p *Process) WaitFor(text string) string {
	p.t.Helper()
	var rest string
	require.Eventually(p.t, func() bool {
		_, after, found := strings.Cut(p.String(), text)
		rest = after
		return found && strings.Contains(after, "\n")
	}, waitTimeout, 5*time.Millisecond, "%s never said %q", p.cmd.Args, text)
	if words := strings.Fields(rest); len(words) > 0 {
		return words[0]
	}
	return ""
}

// API returns the address that the program's API listens on.
func (p *Process) API() string {
	p.t.Helper()
	return p.WaitFor("server=API addr=")
}

// Admin returns the address that the program's admin listener listens on.
func (p *Process) Admin() string {
	p.t.Helper()
	return p.WaitFor(`server="admin listener" addr=`)
}

// Signal sends a signal.
func (p *Process) Signal(signal syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(signal))
}

// PID returns the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the program with SIGKILL, if it has not ended yet.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// Stop asks the program to end, and returns its exit code.
func (p *Process) Stop(signal syscall.Signal) int {
	p.t.Helper()
	p.Signal(signal)
	return p.Wait()
}

// Wait waits until the program has ended, and returns its exit code.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(waitTimeout):
		p.t.Fatalf("%s did not stop", p.cmd.Args)
	}
	return p.cmd.ProcessState.ExitCode()
}
