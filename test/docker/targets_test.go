package docker_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// noEngine is an environment without a Docker engine, with ports and folders of the test's own.
func noEngine(t *testing.T) []string {
	t.Helper()
	folder, err := os.MkdirTemp("", "outboxie-targets-") //nolint:usetesting // its parent is closed to other users
	require.NoError(t, err)
	require.NoError(t, os.Chmod(folder, 0o755)) //nolint:gosec // Postgres runs as another user when root runs the test
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	environment := []string{
		"DOCKER_HOST=unix://" + folder + "/docker.sock", "BINARY=" + infra.Binary(t), "INFRA_DATA=" + folder + "/infra",
		fmt.Sprint("POSTGRES_PORT=", infra.Port(t)), fmt.Sprint("NATS_PORT=", infra.Port(t)), fmt.Sprint("OTLP_PORT=", infra.Port(t)),
	}
	t.Cleanup(func() { // runs first
		_, code := run(t, command(environment, "make", "infra-down"))
		require.Zero(t, code)
	})
	return environment
}

// ports returns two free ports. The ports ten above them are free, too, for the admin listeners.
func ports(t *testing.T) (first, second int) {
	t.Helper()
	free := func() int {
		for {
			port := infra.Port(t)
			if listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port+10)); err == nil {
				require.NoError(t, listener.Close())
				return port
			}
		}
	}
	return free(), free()
}

// TestWithoutEngine checks that without a Docker engine the infrastructure, instances and subscribers start and stop, each twice.
func TestWithoutEngine(t *testing.T) {
	environment := noEngine(t)
	folder := strings.TrimPrefix(environment[2], "INFRA_DATA=")
	var process string
	for range 2 {
		said, code := run(t, command(environment, "make", "infra-up"))
		require.Zero(t, code)
		require.Contains(t, said, "No Docker engine (")
		require.Contains(t, said, "Postgres and NATS run: process ")
		pid, err := os.ReadFile(filepath.Join(folder, "pid"))
		require.NoError(t, err)
		require.True(t, process == "" || process == string(pid), "one and the same")
		process = string(pid)
	}
	info, err := os.Stat(filepath.Join(folder, "log"))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm(), "it holds passwords")
	for range 2 {
		a, b := ports(t)
		serving := start(t, command(environment, "docker/processes.sh", "serve", fmt.Sprint("a=", a), fmt.Sprint("b=", b)))
		reading := start(t, command(environment, "docker/processes.sh", "subscribe", "s1", "s2"))
		for _, name := range []string{"a", "b"} {
			serving.WaitFor("server=API addr=127.0.0.1:" + strconv.Itoa(map[string]int{"a": a, "b": b}[name]))
			require.Regexp(t, `(?m)^`+name+` \| .*listening`, serving.String())
		}
		order := place(t, a)
		for _, name := range []string{"s1", "s2"} {
			reading.WaitFor("Received order created event subscriber=" + name + " order_id=" + order)
		}
		require.Zero(t, reading.interrupt())
		require.Zero(t, serving.interrupt())
		require.Contains(t, serving.String(), "lost leadership", "it was stopped, not killed")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(process))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0), "Ctrl-C in a terminal is not for the infrastructure")
	for range 2 {
		_, code := run(t, command(environment, "make", "infra-down"))
		require.Zero(t, code)
		require.Error(t, syscall.Kill(pid, 0))
	}
}

// TestClean checks that `make clean` removes the data of a folder, unless a server uses it.
func TestClean(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(folder, "docker"), os.DirFS(filepath.Join(root, "docker"))))
	data := filepath.Join(folder, ".outboxie")
	clean := func() (string, int) {
		return run(t, exec.Command("bash", filepath.Join(folder, "docker", "infra.sh"), "clean"))
	}
	running := infra.LaunchPlayground(t, nil, "infra", "--data-dir", data)
	running.WaitFor("Ctrl-C stops them")
	said, code := clean()
	require.Equal(t, 1, code)
	require.Contains(t, said, "The data in .outboxie/")
	require.Contains(t, said, "is in use by process ")
	require.FileExists(t, filepath.Join(data, "nats", "lock"))
	require.Zero(t, running.Stop(syscall.SIGTERM))

	// One of the two servers is enough for the refusal. Here only NATS runs, because DATABASE_URL names another Postgres.
	only := infra.LaunchPlayground(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/x"}, "run", "--data-dir", data)
	only.WaitFor("cannot be used yet")
	said, code = clean()
	require.Equal(t, 1, code)
	require.Contains(t, said, "The data in .outboxie/nats is in use by process ")
	require.Zero(t, only.Stop(syscall.SIGTERM))

	postgres, err := filepath.EvalSymlinks(filepath.Join(data, "postgres")) // if root runs the test, the folder is a link
	require.NoError(t, err)
	for range 2 {
		_, code = clean()
		require.Zero(t, code)
		require.NoDirExists(t, data)
		require.NoDirExists(t, postgres)
	}
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, entries, 1, "docker/ is left")
}

// TestTargets checks that the targets work on their default ports, each twice in a row, in Docker and without.
func TestTargets(t *testing.T) {
	needEngine(t)
	for name, environment := range map[string][]string{"Docker": nil, "no engine": noEngine(t)[:3]} {
		t.Run(name, func(t *testing.T) {
			making := func(target string) *exec.Cmd { return command(environment, "make", target) }
			for _, targets := range [][2]string{
				{"run-example", "run-subscriber"},
				{"run-example", "run-subscriber"},
				{"run-distributed", "run-subscribers"},
				{"run-distributed", "run-subscribers"},
			} {
				serving, reading := start(t, making(targets[0])), start(t, making(targets[1]))
				port := 8080
				if targets[0] == "run-distributed" {
					port = 8083
					serving.WaitFor("app3 | ")
				}
				serving.WaitFor("server=API addr=127.0.0.1:" + strconv.Itoa(port))
				order := place(t, port)
				reading.WaitFor("Received order created event subscriber=subscriber1 order_id=" + order)
				if targets[1] == "run-subscribers" {
					reading.WaitFor("subscriber=subscriber3 order_id=" + order)
				}
				reading.interrupt()
				serving.interrupt()
			}
			for range 2 {
				_, code := run(t, making("infra-up"))
				require.Zero(t, code)
			}
			if name == "Docker" {
				requireJaeger(t, "services", func(said string) bool { return strings.Contains(said, `"outboxie"`) })
			}
			said, code := run(t, command(environment, "docker/infra.sh", "during", "go", "test", "./test/infra", "-count=1", "-v", "-run",
				"TestDatabaseIsMigratedAndOfTheTestsOwn"))
			require.Zero(t, code)
			require.Contains(t, said, "--- PASS", "beside infra-up")
			for range 2 {
				_, code := run(t, making("infra-down"))
				require.Zero(t, code)
			}
			for _, port := range []string{"5432", "4222"} {
				listener, err := net.Listen("tcp", "127.0.0.1:"+port)
				require.NoError(t, err, "the port is free again")
				require.NoError(t, listener.Close())
			}
		})
	}
	succeed(t, "docker", "compose", "up", "--detach", "--wait")
	succeed(t, "make", "docker-stop-distributed")
	succeed(t, "make", "docker-stop-distributed")
	require.Empty(t, succeed(t, "docker", "compose", "ps", "--all", "--quiet"))
}

// TestPortOfAContainer checks that the error about a port that another container has names that container.
func TestPortOfAContainer(t *testing.T) {
	needEngine(t)
	const name = "outboxie-test-neighbor"
	succeed(t, "docker", "run", "--detach", "--rm", "--name", name, "--publish", "127.0.0.1:4222:4222", "nats:2.15-alpine")
	defer succeed(t, "docker", "rm", "--force", name)
	said, code := run(t, command(nil, "make", "infra-up"))
	require.NotZero(t, code)
	require.Contains(t, said, "Port 4222 is taken by the container "+name+".")
}

// TestOneProcessEnds checks that when one of several processes ends, the others are stopped and the target fails.
func TestOneProcessEnds(t *testing.T) {
	environment := noEngine(t)
	_, code := run(t, command(environment, "make", "infra-up"))
	require.Zero(t, code)
	a, b := ports(t)
	serving := start(t, command(environment, "docker/processes.sh", "serve", fmt.Sprint("a=", a), fmt.Sprint("b=", b)))
	serving.WaitFor("server=API addr=127.0.0.1:" + strconv.Itoa(a))
	serving.WaitFor("server=API addr=127.0.0.1:" + strconv.Itoa(b))
	require.NoError(t, syscall.Kill(processWith(t, "serve --http-addr 127.0.0.1:"+strconv.Itoa(b)), syscall.SIGKILL))
	require.Equal(t, 1, serving.Wait())
	serving.requireNobodyLeft()
	require.Contains(t, serving.String(), "b ended: the others are stopped.")
}

// processWith finds the process that has these arguments.
func processWith(t *testing.T, arguments string) int {
	t.Helper()
	said, err := command(nil, "ps", "-A", "-o", "pid=,args=").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, arguments) {
			pid, err := strconv.Atoi(strings.Fields(line)[0])
			require.NoError(t, err)
			return pid
		}
	}
	t.Fatalf("no process has the arguments %q", arguments)
	return 0
}

// TestBadCircumstances checks that each target that cannot work prints the reason and what to do.
func TestBadCircumstances(t *testing.T) {
	t.Run("a port is taken", func(t *testing.T) {
		environment := noEngine(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		port := listener.Addr().(*net.TCPAddr).Port
		said, code := run(t, command(append(environment, fmt.Sprint("NATS_PORT=", port)), "make", "infra-up"))
		require.NotZero(t, code)
		require.Contains(t, said, fmt.Sprintf("Port %d is taken by ", port))
		require.Regexp(t, fmt.Sprintf(`taken by (.*, process %d|a process that cannot be named)\.`, os.Getpid()), said)
		require.NotContains(t, said, "NATS run: process")

		said, code = run(t, command(environment, "docker/processes.sh", "serve", fmt.Sprint("a=", port)))
		require.Equal(t, 1, code)
		require.Contains(t, said, fmt.Sprintf("Port %d is taken by ", port))
	})
	t.Run("no engine", func(t *testing.T) {
		for _, target := range []string{"docker-build", "docker-stop-distributed", "test-docker"} {
			said, code := run(t, command([]string{"DOCKER_HOST=unix:///nowhere/docker.sock", "BINARY=" + infra.Binary(t)}, "make", target))
			require.NotZero(t, code)
			require.Contains(t, said, "This needs a Docker engine, and none answers: ")
		}
	})
	for name, c := range map[string]struct{ compose, words string }{
		"an old Compose": {"echo 2.5.0", "Docker Compose is version 2.5.0; the files in docker/ need 2.20 or newer."},
		"no Compose":     {"exit 1", "install the Compose plugin"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			script := "#!/bin/sh\ncase $1 in compose) " + c.compose + ";; version) echo 27.0.0;; esac\n"
			require.NoError(t, os.WriteFile(filepath.Join(folder, "docker"), []byte(script), 0o755)) //nolint:gosec // a program
			for _, target := range []string{"up", "down", "compose"} {
				environment := []string{"INFRA_DATA=" + folder, "PATH=" + folder + ":" + os.Getenv("PATH")}
				said, code := run(t, command(environment, "docker/infra.sh", target))
				require.Equal(t, 1, code)
				require.Contains(t, said, c.words)
			}
		})
	}
}
