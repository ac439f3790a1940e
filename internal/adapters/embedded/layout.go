package embedded

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// layout is how the folder of a server is divided, and the lock that makes it ours.
type layout struct {
	root  string // PostgresOptions.DataDir, or where that leads to
	data  string // Postgres' own data folder
	run   string // the library's scratch folder
	temp  string // holds the server's log
	fresh string // exists while data is being made: what is there is worth nothing
	cache string
	lock  *os.File
}

// prepare makes the folders, gives them to the user that the server will run as, becomes that user, and takes the lock.
func prepare(opts PostgresOptions) (*layout, error) {
	root, cache := opts.DataDir, opts.CacheDir
	if os.Geteuid() == 0 {
		who, err := serverUser(root)
		if err != nil {
			return nil, err
		}
		if root, err = who.settle(root); err != nil {
			return nil, err
		}
		if !who.reaches(cache) {
			cache = "/var/cache/outboxie/postgres"
		}
		if err := who.own(cache); err != nil {
			return nil, err
		}
		if err := who.become(); err != nil {
			return nil, err
		}
	}
	l := &layout{
		root: root, data: filepath.Join(root, "data"), run: filepath.Join(root, "run"), temp: filepath.Join(root, "tmp"),
		fresh: filepath.Join(root, "initializing"), cache: cache,
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder of Postgres: %w", err)
	}
	if err := l.acquire(); err != nil {
		return nil, err
	}
	if err := l.clear(opts.Fresh); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// acquire takes the folder's lock, which ends with this process.
func (l *layout) acquire() error {
	file, err := lockFile(filepath.Join(l.root, "lock"), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("the data folder %s is in use by another running instance: stop it, or choose another folder", l.root)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the data folder %s belongs to another user (was the program run as root before?): "+
			"run as that user, remove the folder as root, or choose another: %w", l.root, err)
	}
	if err != nil {
		return fmt.Errorf("lock the data folder of Postgres: %w", err)
	}
	l.lock = file
	return nil
}

// clear removes what earlier runs left behind, all data included when fresh is asked for.
func (l *layout) clear(fresh bool) error {
	if err := stopStale(l.data); err != nil {
		return err
	}
	if _, err := os.Stat(l.fresh); err == nil {
		fresh = true // the first start was interrupted
	}
	old := []string{l.run, l.temp}
	if fresh {
		old = append(old, l.data)
	}
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clear the data folder of Postgres: %w", err)
		}
	}
	if err := os.Mkdir(l.temp, 0o700); err != nil {
		return fmt.Errorf("make the data folder of Postgres: %w", err)
	}
	// The library leaves its log in the folder for temporary files; the locale must exist everywhere.
	return errors.Join(os.Setenv("TMPDIR", l.temp), os.Setenv("LC_ALL", "C"))
}

func (l *layout) release() { _ = l.lock.Close() }

func lockFile(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// account is the user that the server runs as when root starts it.
type account struct {
	name     string
	uid, gid int
}

// serverUser is the owner of the data if it exists, else postgres, else nobody.
func serverUser(root string) (account, error) {
	if info, err := os.Stat(filepath.Join(root, "data")); err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 {
			return account{name: "#" + strconv.Itoa(int(owner.Uid)), uid: int(owner.Uid), gid: int(owner.Gid)}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(found.Uid)
		gid, gidErr := strconv.Atoi(found.Gid)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{name: name, uid: uid, gid: gid}, nil
	}
	return account{}, errors.New("Postgres refuses to run as root and there is neither a user postgres nor a user nobody: " +
		"add one, or run as a normal user")
}

// settle returns the folder to use for root: root itself, or, when a folder above it is closed to the account, one
// under /var/lib/outboxie that root becomes a link to. The folder belongs to the account afterwards.
func (a account) settle(root string) (string, error) {
	if target, err := filepath.EvalSymlinks(root); err == nil && target != root {
		return target, a.own(target)
	}
	if a.reaches(root) {
		return root, a.own(root)
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("Postgres runs as user %s, who cannot reach the data folder %s because a folder above it is closed: "+
			"open that one (chmod o+x), or choose another data folder", a.name, root)
	}
	target := filepath.Join("/var/lib/outboxie", fmt.Sprintf("%x", sha256.Sum256([]byte(root)))[:16])
	if err := os.RemoveAll(target); err != nil { // whoever removed the link removed the data
		return "", fmt.Errorf("clear %s: %w", target, err)
	}
	if err := a.own(target); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return "", fmt.Errorf("make the data folder of Postgres: %w", err)
	}
	if err := os.Symlink(target, root); err != nil {
		return "", fmt.Errorf("make the data folder of Postgres: %w", err)
	}
	return target, nil
}

// reaches reports whether every existing folder above path lets the account through.
func (a account) reaches(path string) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil {
			bit := fs.FileMode(0o001)
			if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) == a.uid {
				bit = 0o100
			} else if ok && int(owner.Gid) == a.gid {
				bit = 0o010
			}
			if info.Mode()&bit == 0 {
				return false
			}
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// own makes the folder, if need be with folders above it that anybody may pass, and gives it to the account.
func (a account) own(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if parent := filepath.Dir(dir); parent != dir {
			if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
				if err := errors.Join(os.MkdirAll(parent, 0o755), os.Chmod(parent, 0o755)); err != nil {
					return fmt.Errorf("make the data folder of Postgres: %w", err)
				}
			}
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make the data folder of Postgres: %w", err)
		}
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.uid, a.gid)
	})
}

// become gives up root for good.
func (a account) become() error {
	if err := syscall.Setgroups([]int{a.gid}); err != nil {
		return fmt.Errorf("become user %s: %w", a.name, err)
	}
	if err := syscall.Setgid(a.gid); err != nil {
		return fmt.Errorf("become user %s: %w", a.name, err)
	}
	if err := syscall.Setuid(a.uid); err != nil {
		return fmt.Errorf("become user %s: %w", a.name, err)
	}
	return nil
}
