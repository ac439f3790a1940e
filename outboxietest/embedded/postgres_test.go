package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// TestPostgresKeepsItsData checks that rows survive a restart of the server.
func TestPostgresKeepsItsData(t *testing.T) {
	t.Parallel()
	opts := options(folder(t))
	first := start(t, opts)
	keep(t, first.URL())
	stop(t, first)

	second := start(t, opts)
	require.Equal(t, "kept", query(t, second.URL(), "SELECT v FROM t"))
	stop(t, second)
}

// TestPostgresNeverTradesDurabilityForSpeed checks that no setting that protects committed data is switched off.
func TestPostgresNeverTradesDurabilityForSpeed(t *testing.T) {
	opts := options(seeded(t))
	opts.Parameters = map[string]string{"log_line_prefix": "with space "}
	t.Setenv("PGPORT", "1")
	t.Setenv("PGSERVICE", "elsewhere")
	server := start(t, opts)
	for setting, value := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "max_connections": "200", "max_prepared_transactions": "10",
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "log_line_prefix": "with space ", "server_encoding": "UTF8",
	} {
		t.Setenv("PGSERVICE", "")
		require.Equal(t, value, query(t, server.SuperuserURL(), "SHOW "+setting), setting)
	}
	stop(t, server)
}

// TestPostgresDiesWithItsOwner checks that the server ends when the process that started it is killed.
func TestPostgresDiesWithItsOwner(t *testing.T) {
	t.Parallel()
	opts := options(seeded(t))
	owner := startOwner(t, opts, nil)
	keep(t, owner.URL)
	require.NoError(t, owner.cmd.Process.Kill())
	requireGone(t, owner.PID)

	server := start(t, opts)
	require.Equal(t, "kept", query(t, server.URL(), "SELECT v FROM t"))
	stop(t, server)
}

// TestTemporaryPostgresLeavesNothing checks that a server with temporary data leaves neither files nor processes.
func TestTemporaryPostgresLeavesNothing(t *testing.T) {
	t.Parallel()
	opts := options(folder(t))
	opts.Temporary = true
	stop(t, start(t, opts))
	require.NoDirExists(t, opts.DataDir)

	owner := startOwner(t, opts, nil)
	require.NoError(t, owner.cmd.Process.Kill())
	requireGone(t, owner.PID)
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(opts.DataDir, "data"))
		return errors.Is(err, os.ErrNotExist)
	}, 10*time.Second, 10*time.Millisecond)
}

// TestPostgresOfAKilledSupervisorIsStopped checks that the server ends when its supervisor is killed, and that the next start stops a
// server whose owner and supervisor were both killed.
func TestPostgresOfAKilledSupervisorIsStopped(t *testing.T) {
	t.Parallel()
	opts := options(seeded(t))
	server := start(t, opts)
	require.NoError(t, syscall.Kill(supervisor(t, opts), syscall.SIGKILL))
	<-server.Done()
	requireGone(t, server.PID())
	require.ErrorContains(t, server.Stop(), "killed")

	// Owner and supervisor die together: the next start finds the server that nobody stopped.
	owner := startOwner(t, opts, nil)
	require.NoError(t, owner.cmd.Process.Signal(syscall.SIGSTOP))
	require.NoError(t, syscall.Kill(supervisor(t, opts), syscall.SIGKILL))
	require.NoError(t, owner.cmd.Process.Kill())
	_ = owner.cmd.Wait()
	require.True(t, running(owner.PID))
	again := start(t, opts)
	requireGone(t, owner.PID)
	stop(t, again)
}

// TestTerminalSignalsLeavePostgresToItsOwner checks that the signals of a terminal do not end the server. Only its owner ends it.
func TestTerminalSignalsLeavePostgresToItsOwner(t *testing.T) {
	t.Parallel()
	opts := options(seeded(t))
	server := start(t, opts)
	pid := supervisor(t, opts)
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.NotEqual(t, syscall.Getpgrp(), group)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		require.NoError(t, syscall.Kill(pid, signal))
	}
	require.Equal(t, "1", query(t, server.URL(), "SELECT '1'"))
	stop(t, server)
}

// TestPostgresThatCrashesIsNoticed checks that Done is closed when the server crashes.
func TestPostgresThatCrashesIsNoticed(t *testing.T) {
	t.Parallel()
	opts := options(seeded(t))
	server := start(t, opts)
	require.NoError(t, syscall.Kill(server.PID(), syscall.SIGKILL))
	select {
	case <-server.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done was not closed")
	}
	require.ErrorContains(t, server.Stop(), "died")
	stop(t, start(t, opts)) // although processes of the dead server may run for a moment longer
}

// TestPostgresInterruptedWhileItWasMadeIsMadeAnew checks that a data folder whose creation was interrupted is created again.
func TestPostgresInterruptedWhileItWasMadeIsMadeAnew(t *testing.T) {
	t.Parallel()
	opts := options(folder(t))
	require.NoError(t, os.MkdirAll(filepath.Join(opts.DataDir, "data"), 0o700))
	for _, name := range []string{"lock", "initializing", "data/PG_VERSION"} {
		require.NoError(t, os.WriteFile(filepath.Join(opts.DataDir, name), []byte("15\n"), 0o600))
	}
	server := start(t, opts)
	require.Equal(t, "1", query(t, server.URL(), "SELECT '1'"))
	require.NoFileExists(t, filepath.Join(opts.DataDir, "initializing"))
	stop(t, server)
}

// TestStaleProcessIDIsNotInTheWay checks that a file with the id of an unrelated process does not prevent a start.
func TestStaleProcessIDIsNotInTheWay(t *testing.T) {
	t.Parallel()
	opts := options(seeded(t))
	stop(t, start(t, opts))
	pid := filepath.Join(opts.DataDir, "data", "postmaster.pid")
	require.NoError(t, os.WriteFile(pid, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)) // ours: a process, but not Postgres
	stop(t, start(t, opts))
}

// TestPostgresSaysWhyItDoesNotStart checks that a server that cannot start returns the reason.
func TestPostgresSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	used := start(t, options(seeded(t)))
	port := occupied(t)
	foreign := folder(t)
	require.NoError(t, os.MkdirAll(filepath.Join(foreign, "photos"), 0o700))
	old := folder(t)
	require.NoError(t, os.MkdirAll(filepath.Join(old, "data"), 0o700))
	for _, name := range []string{"lock", "data/PG_VERSION"} {
		require.NoError(t, os.WriteFile(filepath.Join(old, name), []byte("11\n"), 0o600))
	}
	for name, test := range map[string]struct {
		change func(*embedded.PostgresOptions)
		says   []string
	}{
		"port taken":     {func(o *embedded.PostgresOptions) { o.Port = port }, []string{"port " + strconv.Itoa(port)}},
		"folder in use":  {func(o *embedded.PostgresOptions) { o.DataDir = used.DataDir() }, []string{used.DataDir(), "in use"}},
		"foreign folder": {func(o *embedded.PostgresOptions) { o.DataDir = foreign }, []string{foreign, "not empty"}},
		"other version":  {func(o *embedded.PostgresOptions) { o.DataDir = old }, []string{"Postgres 11", used.Version(), "--fresh"}},
		"wrong home":     {func(o *embedded.PostgresOptions) { o.Home = "/nowhere" }, []string{"OUTBOXIE_PG_HOME=/nowhere", "bin/postgres"}},
		"wrong parameter": {
			func(o *embedded.PostgresOptions) { o.Parameters = map[string]string{"no_such": "1"} }, []string{"no_such"},
		},
		"no folder": {func(o *embedded.PostgresOptions) { o.DataDir = "" }, []string{"data folder"}},
	} {
		t.Run(name, func(t *testing.T) {
			opts := options(seeded(t))
			test.change(&opts)
			_, err := embedded.StartPostgres(t.Context(), opts)
			for _, text := range test.says {
				require.ErrorContains(t, err, text)
			}
		})
	}
	require.FileExists(t, filepath.Join(old, "data", "PG_VERSION"), "data of another version must stay")
	stop(t, used)
}

// TestCancelledStartLeavesNothing checks that a cancelled start leaves no server running, and that the next start works.
func TestCancelledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	opts := options(folder(t))
	_, err := embedded.StartPostgres(ctx, opts)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoFileExists(t, filepath.Join(opts.DataDir, "data", "postmaster.pid"))
	stop(t, start(t, opts))
}

// TestPostgresAsANormalUser checks that a normal user's server runs as that user, and that root continues with the same data without taking
// it over.
func TestPostgresAsANormalUser(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	if os.Geteuid() != 0 {
		owner := startOwner(t, options(dir), nil) // the tests run as a normal user
		require.EqualValues(t, os.Geteuid(), serverUser(t, dir))
		require.NoError(t, owner.stdin.Close())
		require.NoError(t, owner.cmd.Wait())
		requireGone(t, owner.PID)
		return
	}
	nobody := account(t, "nobody")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Chown(dir, int(nobody.Uid), int(nobody.Gid)))
	owner := startOwner(t, options(dir), nobody)
	require.EqualValues(t, nobody.Uid, serverUser(t, dir))
	keep(t, owner.URL)
	require.NoError(t, owner.stdin.Close())
	require.NoError(t, owner.cmd.Wait())
	requireGone(t, owner.PID)

	// Root runs the server as the owner of the data, so the owner can use the data afterwards.
	server := start(t, options(dir))
	require.Equal(t, "kept", query(t, server.URL(), "SELECT v FROM t"))
	require.EqualValues(t, nobody.Uid, serverUser(t, dir))
	stop(t, server)
}

// TestPostgresInAFolderThatItsUserCannotReach checks that root can use a folder that the server's own user cannot reach: the data lies
// elsewhere, and the next start finds it. Root's own folders are often closed to everybody else.
func TestPostgresInAFolderThatItsUserCannotReach(t *testing.T) {
	t.Parallel()
	opts := options(folder(t))
	require.NoError(t, os.Chmod(filepath.Dir(opts.DataDir), 0o700))
	server := start(t, opts)
	keep(t, server.URL())
	elsewhere := server.DataDir()
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(elsewhere)) })
	require.Equal(t, os.Geteuid() == 0, elsewhere != opts.DataDir)
	stop(t, server)

	again := start(t, opts)
	require.Equal(t, elsewhere, again.DataDir())
	require.Equal(t, "kept", query(t, again.URL(), "SELECT v FROM t"))
	stop(t, again)

	require.NoError(t, os.RemoveAll(opts.DataDir)) // a link, for root
	fresh := start(t, opts)
	require.Equal(t, "0", query(t, fresh.URL(), "SELECT count(*)::text FROM pg_class WHERE relname = 't'"))
	stop(t, fresh)
}

func account(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	found, err := user.Lookup(name)
	require.NoError(t, err)
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// serverUser returns the user that the server runs as.
func serverUser(t *testing.T, dir string) uint32 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Uid
}

// supervisor returns the process id of a server's supervisor.
func supervisor(t *testing.T, opts embedded.PostgresOptions) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(opts.DataDir, "lock"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	return pid
}
