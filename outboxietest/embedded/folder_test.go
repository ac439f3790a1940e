package embedded_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// kept has the files that two servers leave in a data folder when they stop.
var kept = []string{
	"postgres/lock", "postgres/pgpass", "postgres/data/PG_VERSION", "postgres/run/x", "postgres/tmp/x", "nats/lock", "nats/password",
	"nats/jetstream/$G/x",
}

// dataFolder makes a data folder that holds files. No server runs in it.
func dataFolder(t *testing.T, files ...string) string {
	t.Helper()
	dir := filepath.Dir(folder(t))
	for _, name := range files {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	return dir
}

// requireFiles checks that a folder holds these files and no others. Empty folders do not count.
func requireFiles(t *testing.T, dir string, files ...string) {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, err := filepath.Rel(dir, path)
			found = append(found, name)
			return err
		}
		return err
	}))
	require.ElementsMatch(t, files, found)
}

// TestFreshRemovesWhatBothServersHold checks that a fresh start removes the data of both servers, and that a normal start removes nothing.
func TestFreshRemovesWhatBothServersHold(t *testing.T) {
	t.Parallel()
	dir := dataFolder(t, append(kept, "infra/log", "postgres/initializing")...)
	require.NoError(t, embedded.Prepare(dir, true))
	requireFiles(t, dir, "postgres/lock", "nats/lock", "infra/log")
	require.NoError(t, embedded.Prepare(dir, true), "a second time as well")
	require.NoError(t, embedded.Prepare(filepath.Join(dir, "new"), true), "and where there is nothing yet")
	require.DirExists(t, embedded.NATSFolder(filepath.Join(dir, "new")))

	kind := dataFolder(t, kept...)
	require.NoError(t, embedded.Prepare(kind, false))
	requireFiles(t, kind, kept...)
}

// TestWipeThatIsInterrupted checks that the next start finishes a removal that was interrupted, as by kill -9. The test interrupts the removal
// before each of its steps.
func TestWipeThatIsInterrupted(t *testing.T) {
	t.Parallel()
	killed := errors.New("killed")
	for steps := 0; ; steps++ {
		dir, done := dataFolder(t, kept...), 0
		err := embedded.Wipe(dir, func(path string) error {
			if done == steps {
				return killed
			}
			done++
			return os.RemoveAll(path)
		})
		if err == nil {
			require.Greater(t, steps, 5)
			return
		}
		require.ErrorIs(t, err, killed)
		if steps%2 == 0 {
			require.NoError(t, embedded.FinishWipe(dir), "a command that runs one of the two servers")
		} else {
			require.NoError(t, embedded.Prepare(dir, false), "a command that runs both")
		}
		requireFiles(t, dir, "postgres/lock", "nats/lock")
	}
}

// TestFolderInUseIsNotWiped checks that the data of a running server is not removed.
func TestFolderInUseIsNotWiped(t *testing.T) {
	t.Parallel()
	for _, used := range []string{"postgres/lock", "nats/lock"} {
		dir := dataFolder(t, kept...)
		lock, err := os.Open(filepath.Join(dir, used))
		require.NoError(t, err)
		require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
		require.ErrorContains(t, embedded.Prepare(dir, true), "in use")
		requireFiles(t, dir, kept...)
		require.NoError(t, lock.Close())
		require.NoError(t, embedded.Prepare(dir, true), "the other one's lock was given back")
	}
	foreign := dataFolder(t, "postgres/photos/x", "nats/jetstream/x")
	require.ErrorContains(t, embedded.Prepare(foreign, true), "not made by this program")
	requireFiles(t, foreign, "postgres/photos/x", "nats/jetstream/x")
}

// TestOneServerWithoutTheOther checks that the data of one server without that of the other is refused.
func TestOneServerWithoutTheOther(t *testing.T) {
	t.Parallel()
	postgres, nats := kept[:5], kept[5:]
	dir := dataFolder(t, postgres...)
	err := embedded.Prepare(dir, false)
	require.ErrorContains(t, err, "its events went to is not in "+embedded.NATSFolder(dir))
	require.ErrorContains(t, err, "--fresh")
	require.ErrorContains(t, err, "to keep the database alone, make ")
	require.ErrorContains(t, embedded.Prepare(dir, false), "is not in", "refusing makes nothing that lets the next start pass")
	require.NoError(t, os.Mkdir(embedded.NATSFolder(dir), 0o700))
	require.NoError(t, embedded.Prepare(dir, false))
	requireFiles(t, dir, postgres...)

	for name, files := range map[string][]string{
		"the folder of Postgres was deleted": nats,
		"its data was deleted":               append([]string{"postgres/lock", "postgres/pgpass"}, nats...),
	} {
		dir := dataFolder(t, files...)
		require.ErrorContains(t, embedded.Prepare(dir, false), "their events came from is not in "+embedded.PostgresFolder(dir), name)
		requireFiles(t, dir, files...)
		require.NoError(t, embedded.Prepare(dir, true), name)
		require.NoError(t, embedded.Prepare(dir, false), name)
	}
}
