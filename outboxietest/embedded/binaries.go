package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	postgres "github.com/fergusstrange/embedded-postgres"
)

// defaultVersion is the version that is downloaded if no Postgres is installed.
const defaultVersion = string(postgres.V17)

// installed has patterns of the folders into which packages install bin/postgres.
var installed = []string{
	"/usr/lib/postgresql/*", // Debian, Ubuntu
	"/usr/pgsql-*",          // the PostgreSQL project's own RPMs
	"/usr/local/pgsql",      // built from source
	"/opt/homebrew/opt/postgresql*", "/usr/local/opt/postgresql*",
	"/Applications/Postgres.app/Contents/Versions/*",
	"/usr", "/usr/local", // Fedora, Arch, FreeBSD
}

// binaries is the folder of a Postgres. The Postgres is there, or must still be downloaded into the folder.
type binaries struct {
	home     string
	version  string
	download bool
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)*`)

// findBinaries returns the Postgres in opts.Home if a home is named. Otherwise it returns the newest installed Postgres. If none is installed,
// it returns the folder of a downloaded Postgres.
func findBinaries(opts PostgresOptions) (binaries, error) {
	if opts.Home != "" {
		found, err := inspect(opts.Home)
		if err != nil {
			return binaries{}, fmt.Errorf("OUTBOXIE_PG_HOME=%s must be a folder that holds bin/postgres, bin/pg_ctl and bin/initdb: %w",
				opts.Home, err)
		}
		return found, nil
	}
	patterns := opts.Search
	if patterns == nil {
		patterns = installed
	}
	if found, ok := newest(patterns); ok {
		return found, nil
	}
	version := opts.Version
	if version == "" {
		version = defaultVersion
	}
	return binaries{home: filepath.Join(opts.CacheDir, version), version: version, download: true}, nil
}

// newest returns the highest version among the folders that match the patterns.
func newest(patterns []string) (best binaries, ok bool) {
	for _, pattern := range patterns {
		homes, _ := filepath.Glob(pattern) // the patterns are well-formed
		for _, home := range homes {
			if found, err := inspect(home); err == nil && (!ok || slices.Compare(found.numbers(), best.numbers()) > 0) {
				best, ok = found, true
			}
		}
	}
	return best, ok
}

// inspect finds out what version the folder holds.
func inspect(home string) (binaries, error) {
	for _, program := range []string{"postgres", "pg_ctl", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(home, "bin", program)); err != nil {
			return binaries{}, err
		}
	}
	out, err := exec.Command(filepath.Join(home, "bin", "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, fmt.Errorf("%s/bin/postgres --version: %w", home, err)
	}
	version := versionPattern.FindString(string(out))
	if version == "" {
		return binaries{}, fmt.Errorf("%s/bin/postgres --version says %q", home, out)
	}
	return binaries{home: home, version: version}, nil
}

func (b binaries) major() string {
	major, _, _ := strings.Cut(b.version, ".")
	return major
}

func (b binaries) numbers() []int {
	var numbers []int
	for part := range strings.SplitSeq(b.version, ".") {
		number, _ := strconv.Atoi(part) // the pattern allows digits only
		numbers = append(numbers, number)
	}
	return numbers
}

// reserve makes this process the only one that downloads and unpacks, until the returned file is closed. Other processes wait. reserve
// removes the remains of an interrupted download.
func (b binaries) reserve() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(b.home), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for a downloaded Postgres: %w", err)
	}
	file, err := lockFile(b.home+".lock", syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock the folder for a downloaded Postgres: %w", err)
	}
	if _, err := os.Stat(b.home + ".complete"); err != nil {
		if err := os.RemoveAll(b.home); err != nil {
			return nil, errors.Join(fmt.Errorf("clear the folder for a downloaded Postgres: %w", err), file.Close())
		}
	}
	return file, nil
}

// complete marks the download as completely unpacked.
func (b binaries) complete() error {
	if err := os.WriteFile(b.home+".complete", nil, 0o644); err != nil {
		return fmt.Errorf("mark the downloaded Postgres: %w", err)
	}
	return nil
}

// explain adds to an error what to do if there is no Postgres to run.
func (b binaries) explain(err error) error {
	if _, missing := inspect(b.home); missing == nil || !b.download {
		return err
	}
	return errors.Join(errors.New("no Postgres is installed, and downloading one failed. Do one of these:\n"+
		"  install it:     apt install postgresql | dnf install postgresql-server | brew install postgresql@17\n"+
		"  or name it:     OUTBOXIE_PG_HOME=/folder/that/holds/bin, with bin/postgres in it\n"+
		"  or use another: DATABASE_URL=postgres://user:password@host:5432/database of a running server\n"+
		"  or go online:   Postgres "+b.version+" is downloaded once, to "+b.home), err)
}
