package embedded_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// ownerVariable makes the test binary a program that starts a server, and stops the server when standard input closes.
const ownerVariable = "EMBEDDED_TEST_OWNER"

func TestMain(m *testing.M) {
	embedded.SuperviseIfAsked()
	if options := os.Getenv(ownerVariable); options != "" {
		runOwner(options)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if seed.dir != "" {
			_ = os.RemoveAll(seed.dir)
		}
		os.Exit(code)
	}))
}

// runOwner is the program that a test kills. The program owns a server until its standard input closes.
func runOwner(options string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var opts embedded.PostgresOptions
	fail(json.Unmarshal([]byte(options), &opts))
	server, err := embedded.StartPostgres(context.Background(), opts)
	fail(err)
	fail(json.NewEncoder(os.Stdout).Encode(map[string]any{"URL": server.URL(), "PID": server.PID()}))
	_, err = io.Copy(io.Discard, os.Stdin)
	fail(errors.Join(err, server.Stop()))
	os.Exit(0)
}

// ownerProcess is a started program that runs runOwner.
type ownerProcess struct {
	URL string
	PID int // of Postgres

	cmd   *exec.Cmd
	stdin io.Closer
}

func startOwner(t *testing.T, opts embedded.PostgresOptions, as *syscall.Credential) *ownerProcess {
	t.Helper()
	encoded, err := json.Marshal(opts)
	require.NoError(t, err)
	program := "/proc/self/exe" // another user cannot reach the test binary by its path
	if _, err := os.Stat(program); err != nil {
		program, err = os.Executable()
		require.NoError(t, err)
	}
	o := &ownerProcess{cmd: exec.Command(program)}
	o.cmd.Dir = "/"
	o.cmd.Env = append(os.Environ(), ownerVariable+"="+string(encoded))
	o.cmd.Stderr = os.Stderr
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	o.stdin, err = o.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := o.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, o.cmd.Start())
	t.Cleanup(func() {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
	})
	require.NoError(t, json.NewDecoder(stdout).Decode(o))
	return o
}

// folder makes a new folder. Unlike t.TempDir(), users other than root can reach it.
func folder(t *testing.T) string {
	t.Helper()
	top, err := os.MkdirTemp("", "outboxie-embedded-") //nolint:usetesting // its folders are closed to other users
	require.NoError(t, err)
	t.Cleanup(func() { // the supervisor of an owner that was killed may still be at work there
		require.Eventually(t, func() bool { return os.RemoveAll(top) == nil }, 30*time.Second, 20*time.Millisecond)
	})
	require.NoError(t, os.Chmod(top, 0o755))
	return filepath.Join(top, "postgres")
}

// seed has the folder of a server that was started before. The folder is made once, because making it takes longer than everything
// else.
var seed = struct {
	sync.Once
	dir    string
	failed error
}{}

// seeded returns a new folder for one test, in which a server was started before.
func seeded(t *testing.T) string {
	t.Helper()
	seed.Do(func() { seed.failed = createSeed() })
	require.NoError(t, seed.failed)
	dir := folder(t)
	require.NoError(t, os.CopyFS(dir, os.DirFS(seed.dir)))
	require.NoError(t, os.Chmod(filepath.Join(dir, "data"), 0o700))
	return dir
}

func createSeed() error {
	var err error
	if seed.dir, err = os.MkdirTemp("", "outboxie-embedded-"); err != nil {
		return err
	}
	server, err := embedded.StartPostgres(context.Background(), options(seed.dir))
	if err != nil {
		return err
	}
	return server.Stop()
}

func options(dir string) embedded.PostgresOptions {
	return embedded.PostgresOptions{DataDir: dir, Logger: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, opts embedded.PostgresOptions) *embedded.Postgres {
	t.Helper()
	server, err := embedded.StartPostgres(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

func stop(t *testing.T, server *embedded.Postgres) {
	t.Helper()
	require.NoError(t, server.Stop())
	requireGone(t, server.PID())
}

// query runs a statement that returns one text.
func query(t *testing.T, url, statement string) string {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var answer string
	require.NoError(t, db.QueryRowContext(t.Context(), statement).Scan(&answer))
	return answer
}

// keep leaves a table t with the row kept.
func keep(t *testing.T, url string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), "CREATE TABLE t AS SELECT 'kept'::text AS v")
	require.NoError(t, err)
}

func running(pid int) bool {
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		return len(status) > 0 // a zombie that nobody reaps has none
	}
	return syscall.Kill(pid, 0) == nil
}

func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return !running(pid) }, 15*time.Second, 10*time.Millisecond, "Postgres still runs")
}

// occupied returns a port that is in use.
func occupied(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().(*net.TCPAddr).Port
}
