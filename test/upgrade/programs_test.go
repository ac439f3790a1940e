package upgrade_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m) }

// program is the program of an earlier commit.
type program struct {
	name, commit string

	once   sync.Once
	path   string
	failed error
}

var (
	// consumers is the last version whose subscribers kept their place in a durable consumer at the broker.
	consumers = &program{name: "f668941", commit: "f668941903c555345e226753042a268ef937b1d0"}
	// released is v0.1.0, by its commit: a clone need not have tags.
	released = &program{name: "v0.1.0", commit: "19d3036e532b746ff2d09b4715310462199f7596"}
)

// errNoHistory reports that the source is a download without commits, and no clone.
var errNoHistory = errors.New("the source is no git repository, so it does not have the earlier program")

// file returns the file of the program. A clone without the commit fails the test, because a skip would look like an upgrade that works. Only
// a download without any history skips the test: it cannot get the commit. On GitHub, whose workflow fetches all commits, it fails too.
func (p *program) file(t *testing.T) string {
	t.Helper()
	p.once.Do(func() { p.path, p.failed = p.cached() })
	if errors.Is(p.failed, errNoHistory) && os.Getenv("GITHUB_ACTIONS") == "" {
		t.Skip(p.failed)
	}
	require.NoError(t, p.failed)
	return p.path
}

// cached returns the file of the program in the user's cache. A commit never changes, so its program is built once for each version of Go.
func (p *program) cached() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "outboxie", "earlier")
	file := filepath.Join(folder, fmt.Sprintf("outboxie-%s-%s-%s", p.name, p.commit[:12], runtime.Version()))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(folder, "build-")
	if err != nil {
		return "", err
	}
	if err = p.build(work); err == nil {
		err = os.Rename(filepath.Join(work, "outboxie"), file) // another process never sees half a program
	}
	return file, errors.Join(err, os.RemoveAll(work))
}

// build builds the program in an empty folder.
func (p *program) build(work string) error {
	root := filepath.Join("..", "..") // git archives the folder in which it runs
	if run(root, "git", "rev-parse", "--git-dir") != nil {
		return errNoHistory
	}
	if run(root, "git", "cat-file", "-e", p.commit+"^{commit}") != nil {
		return fmt.Errorf("this clone does not have the commit %s of %s: run `git fetch --unshallow origin`, then the test again", p.commit, p.name)
	}
	archive, source := filepath.Join(work, "source.tar"), filepath.Join(work, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		return err
	}
	if err := run(root, "git", "archive", "--output", archive, p.commit); err != nil {
		return err
	}
	if err := run(source, "tar", "xf", archive); err != nil {
		return err
	}
	return run(source, "go", "build", "-o", work, "./cmd/outboxie")
}

// run runs a command in a folder. Its error has the output.
func run(folder, name string, args ...string) error {
	command := exec.Command(name, args...)
	command.Dir = folder
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, said)
	}
	return nil
}
