package processes

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	RunTiedIfAsked()
	os.Exit(m.Run())
}

// shell starts a script, and returns the id of the shell's process.
func shell(t *testing.T, script string) (p *Process, pid int) {
	t.Helper()
	p, err := Start(Options{Name: "script", Program: "/bin/sh", Args: []string{"-c", "echo pid $$; " + script}, Environment: os.Environ()})
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.NoError(t, Await(t.Context(), time.Millisecond, func() (bool, error) {
		word, said := p.LoggedAfter("pid ")
		if said {
			pid, err = strconv.Atoi(word)
		}
		return said, err
	}))
	return p, pid
}

func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }, WaitTimeout, time.Millisecond)
}

// TestProcessesEndWithTheirOwner checks that a program ends when the process that started it ends, or kills or stops the
// program.
func TestProcessesEndWithTheirOwner(t *testing.T) {
	for name, end := range map[string]func(*Process){
		"the owner died": func(p *Process) { require.NoError(t, p.tie.Close()) },
		"Kill":           (*Process).Kill,
		"Stop":           func(p *Process) { Stop(p) },
	} {
		t.Run(name, func(t *testing.T) {
			p, pid := shell(t, "exec sleep 100")
			require.NoError(t, p.Failure())
			end(p)
			requireGone(t, pid)
			<-p.Ended()
		})
	}
}

// TestStopIsInOrder checks that a program that is stopped can still do some work.
func TestStopIsInOrder(t *testing.T) {
	p, _ := shell(t, "trap 'echo stopped in order; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
	require.NoError(t, Await(t.Context(), time.Millisecond, func() (bool, error) { return strings.Contains(p.Log(), "ready"), nil }))
	Stop(p)
	require.Contains(t, p.Log(), "stopped in order")
	require.NoError(t, p.Failure())
}

// TestFailureNamesTheEnd checks that a program that ends by itself is an error with its exit code and its last words.
func TestFailureNamesTheEnd(t *testing.T) {
	p, _ := shell(t, "echo last words >&2; exit 7")
	<-p.Ended()
	var ended *EndedError
	require.ErrorAs(t, p.Failure(), &ended)
	require.Equal(t, 7, ended.Code)
	require.EqualError(t, ended, "script ended by itself (exit status 7); the end of its log:\n  pid "+pidOf(t, p)+"\n  last words")

	p, pid := shell(t, "exec sleep 100")
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	<-p.Ended()
	require.ErrorContains(t, p.Failure(), "script ended by itself (signal: killed)")

	_, err := Start(Options{Name: "nothing", Program: "/nowhere/nothing"})
	require.NoError(t, err, "only its end tells")
	var out bytes.Buffer
	p, err = Start(Options{Name: "script", Program: "/bin/sh", Args: []string{"-c", "echo seen; exit 2"}, Out: &out})
	require.NoError(t, err)
	<-p.Ended()
	require.Equal(t, "seen\n", out.String())
	require.EqualError(t, p.Failure(), "script ended by itself (exit status 2); its log says why")
}

func pidOf(t *testing.T, p *Process) string {
	t.Helper()
	word, said := p.LoggedAfter("pid ")
	require.True(t, said)
	return word
}

// TestFree checks that port 0 becomes a free port, and that a taken port is refused.
func TestFree(t *testing.T) {
	address, err := FreeAddress(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	defer listener.Close()
	_, err = FreeAddress(t.Context(), address)
	require.ErrorContains(t, err, "is taken by ")
}
