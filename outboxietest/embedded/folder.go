package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// A data folder holds the data of a Postgres and a NATS that belong together: the stream holds the events of the database's log. If the
// relay finds one without the other, it halts.
const (
	postgresFolder = "postgres"
	natsFolder     = "nats"
	wipingFile     = "wiping" // exists while a wipe removes data: made before the first removal, removed after the last
)

// PostgresFolder returns the folder in which the Postgres of a data folder keeps its data.
func PostgresFolder(dir string) string { return filepath.Join(dir, postgresFolder) }

// NATSFolder returns the folder in which the NATS of a data folder keeps its streams.
func NATSFolder(dir string) string { return filepath.Join(dir, natsFolder) }

// Prepare makes a data folder ready for its Postgres and its NATS. Neither of them may run. With fresh, Prepare removes the data of both.
// It refuses a folder that has the data of one without the other.
//
// Before Prepare removes anything, it refuses a folder that a running server uses. The next Prepare or FinishWipe finishes an interrupted
// removal, so no start ever finds half of the data.
func Prepare(dir string, fresh bool) error {
	if fresh {
		if err := wipe(dir, os.RemoveAll); err != nil {
			return err
		}
	} else if err := FinishWipe(dir); err != nil {
		return err
	}
	if err := checkPair(dir); err != nil {
		return err
	}
	// The folder of NATS is made first. So a first start that is killed never leaves a Postgres without a NATS.
	if err := os.MkdirAll(dir, 0o755); err != nil { // the user that Postgres runs as must reach the folders below
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := os.MkdirAll(NATSFolder(dir), 0o700); err != nil {
		return fmt.Errorf("make the folder of NATS: %w", err)
	}
	return nil
}

// FinishWipe finishes a removal that an earlier Prepare could not finish because it was killed. Otherwise FinishWipe does nothing.
func FinishWipe(dir string) error {
	if !there(filepath.Join(dir, wipingFile)) {
		return nil
	}
	return wipe(dir, os.RemoveAll)
}

// wipe removes the data of both servers. Callers pass os.RemoveAll, except in tests.
func wipe(dir string, remove func(string) error) error {
	postgres, nats := resolve(PostgresFolder(dir)), NATSFolder(dir)
	if err := refuseForeignFolder(postgres); err != nil {
		return err
	}
	release, err := lockPair(postgres, nats)
	if err != nil {
		return err
	}
	defer release()
	data := filepath.Join(postgres, "data")
	if err := stopStale(data); err != nil {
		return err
	}
	marker := filepath.Join(dir, wipingFile)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := os.WriteFile(marker, []byte("The data in this folder is being removed. The next start finishes it.\n"), 0o600); err != nil {
		return fmt.Errorf("mark the data folder: %w", err)
	}
	for _, path := range []string{
		data, filepath.Join(postgres, "run"), filepath.Join(postgres, "tmp"), filepath.Join(postgres, "initializing"),
		filepath.Join(postgres, passwordFile), filepath.Join(nats, "jetstream"), filepath.Join(nats, natsPasswordFile),
	} {
		if err := remove(path); err != nil {
			return fmt.Errorf("remove the data of earlier runs: %w", err)
		}
	}
	if err := os.Remove(marker); err != nil {
		return fmt.Errorf("remove the mark on the data folder: %w", err)
	}
	return nil
}

// lockPair takes the locks of both servers until release is called. It skips a server whose folder does not exist.
func lockPair(postgres, nats string) (release func(), err error) {
	held := &layout{root: postgres}
	if there(filepath.Join(postgres, "lock")) {
		if err := held.acquire(); err != nil {
			return nil, err
		}
	}
	if !there(filepath.Join(nats, "lock")) {
		return held.release, nil
	}
	lock, err := lockNATS(nats)
	if err != nil {
		held.release()
		return nil, err
	}
	return func() {
		_ = lock.Close()
		held.release()
	}, nil
}

// checkPair refuses a Postgres without its NATS, and a NATS without its Postgres. It allows an empty folder for NATS. An operator makes such a
// folder to keep the database, and the relay then reports what to do.
func checkPair(dir string) error {
	postgres, nats := PostgresFolder(dir), NATSFolder(dir)
	database, streams := there(filepath.Join(resolve(postgres), "data", "PG_VERSION")), there(filepath.Join(nats, "jetstream"))
	switch {
	case database && !there(nats):
		return fmt.Errorf("%s holds a database, but the NATS that its events went to is not in %[2]s: "+
			"to go on as before, put %[2]s back; to start from nothing, remove both (--fresh); "+
			"to keep the database alone, make %[2]s an empty folder and do what `outboxie outbox status` says", postgres, nats)
	case streams && !database:
		return fmt.Errorf("%s holds streams, but the database that their events came from is not in %[2]s: "+
			"to go on as before, put %[2]s back; to start from nothing, remove both (--fresh)", nats, postgres)
	}
	return nil
}

// there reports whether path exists. A path that this user may not look at counts as existing.
func there(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// lockNATS takes the lock of a NATS. The lock ends with this process.
func lockNATS(folder string) (*os.File, error) {
	lock, err := lockFile(filepath.Join(folder, "lock"), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("the folder %s is in use by another running NATS: stop it, or choose another folder", folder)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the folder of NATS: %w", err)
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteString(strconv.Itoa(os.Getpid())) // for `make clean`
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the folder of NATS: %w", err), lock.Close())
	}
	return lock, nil
}
