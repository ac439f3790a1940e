package embedded

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// layout has the subfolders of a server's folder, and the lock with which this process owns the folder.
type layout struct {
	root  string // PostgresOptions.DataDir, with links resolved
	data  string // Postgres' own data folder
	run   string // the library's scratch folder
	temp  string // holds the server's log
	fresh string // exists while data is being made: such data is incomplete and worth nothing
	lock  *os.File
}

// prepare finds the binaries and makes the folders. It gives the folders to the user that the server will run as, and becomes that user.
// Then it takes the lock.
func prepare(opts PostgresOptions) (*layout, binaries, error) {
	syscall.Umask(0o022)
	found, err := findBinaries(opts)
	if err != nil {
		return nil, found, err
	}
	root := resolve(opts.DataDir)
	if err := refuseForeignFolder(root); err != nil {
		return nil, found, err
	}
	if os.Geteuid() == 0 {
		if root, err = dropRoot(root, opts.CacheDir, found); err != nil {
			return nil, found, err
		}
	}
	l := &layout{
		root: root, data: filepath.Join(root, "data"), run: filepath.Join(root, "run"), temp: filepath.Join(root, "tmp"),
		fresh: filepath.Join(root, "initializing"),
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, found, fmt.Errorf("make the data folder of Postgres: %w", err)
	}
	if err := l.acquire(); err != nil {
		return nil, found, err
	}
	if err := l.clear(); err != nil {
		l.release()
		return nil, found, err
	}
	return l, found, nil
}

// refuseForeignFolder refuses a folder that holds other things than a server's data, because the program may give the folder to another user
// and remove it.
func refuseForeignFolder(root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into the data folder of Postgres: %w", err)
	}
	if slices.ContainsFunc(entries, func(entry fs.DirEntry) bool { return entry.Name() == "lock" }) {
		return nil
	}
	return fmt.Errorf("%s is not empty and was not made by this program: choose another data folder for Postgres", root)
}

// dropRoot makes this process run as the server's user, and returns the folder for the data.
func dropRoot(root, cache string, found binaries) (string, error) {
	who, err := serverUser(root)
	if err != nil {
		return "", err
	}
	if root, err = who.prepareRoot(root); err != nil {
		return "", err
	}
	if found.download {
		if err := who.own(cache); err != nil {
			return "", err
		}
	}
	if closed := who.barrier(filepath.Join(found.home, "bin", "postgres")); closed != "" {
		return "", fmt.Errorf("Postgres in %s runs as user %s, who may not enter the folder %s: "+
			"open that folder with chmod o+x, or choose another Postgres", found.home, who.name, closed)
	}
	return root, who.become()
}

// resolve follows links in the part of the path that exists.
func resolve(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(resolve(parent), filepath.Base(path))
	}
	return path
}

// The file of a lock names the process that holds the lock. After an instance was killed, its supervisor may still hold the lock for a
// moment. acquire waits for noticeWait, so that the supervisor can notice the end of its owner. If the supervisor has written stopping into
// the file, acquire waits for stoppedWait.
const (
	stopping    = "stopping"
	noticeWait  = time.Second
	stoppedWait = time.Minute
)

// acquire takes the lock of the folder. The lock ends with this process.
func (l *layout) acquire() error {
	path := filepath.Join(l.root, "lock")
	file, err := lockFile(path, syscall.LOCK_EX|syscall.LOCK_NB)
	for begin := time.Now(); errors.Is(err, syscall.EWOULDBLOCK); file, err = lockFile(path, syscall.LOCK_EX|syscall.LOCK_NB) {
		holder, _ := os.ReadFile(path)
		waitTimeout := noticeWait
		if strings.HasSuffix(string(holder), stopping) {
			waitTimeout = stoppedWait
		}
		if time.Since(begin) > waitTimeout {
			return fmt.Errorf("the data folder %s is in use by another running instance (its supervisor is process %s): "+
				"stop it, or choose another folder", l.root, holder)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the data folder %s belongs to another user (was the program run as root before?): "+
			"run as that user, remove the folder as root, or choose another folder: %w", l.root, err)
	}
	if err != nil {
		return fmt.Errorf("lock the data folder of Postgres: %w", err)
	}
	l.lock = file
	if err := l.inscribe(""); err != nil {
		l.release()
		return err
	}
	return nil
}

// inscribe writes the id of this process and the word what into the lock's file. The word stopping means that the lock will soon be free.
func (l *layout) inscribe(what string) error {
	text := strings.TrimSpace(strconv.Itoa(os.Getpid()) + " " + what)
	if err := os.WriteFile(filepath.Join(l.root, "lock"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("lock the data folder of Postgres: %w", err)
	}
	return nil
}

// clear removes what earlier runs left behind, and closes the folder to other users. It removes the data only if the first start
// was interrupted.
func (l *layout) clear() error {
	if err := stopStale(l.data); err != nil {
		return err
	}
	if err := os.Chmod(l.root, 0o700); err != nil {
		return fmt.Errorf("close the data folder of Postgres to other users: %w", err)
	}
	old := []string{l.run, l.temp}
	if _, err := os.Stat(l.fresh); err == nil {
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
	return os.Setenv("TMPDIR", l.temp) // the library writes the server's log there
}

func (l *layout) release() {
	if l.lock != nil {
		_ = l.lock.Close()
	}
}

// logTail returns the end of the server's log.
func (l *layout) logTail() string {
	files, _ := filepath.Glob(filepath.Join(l.temp, "*")) // the pattern is well-formed
	if len(files) == 0 {
		return ""
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

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

// serverUser returns the owner of the data. If the data was removed, it returns the owner of the lock. If there is no lock either, it
// returns the user postgres, or nobody if there is no such user.
func serverUser(root string) (account, error) {
	for _, name := range []string{"data", "lock"} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			continue
		}
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
		"add one of them, or run as a normal user")
}

// prepareRoot returns the folder in which the account keeps its data, and gives this folder to the account. If the account can reach the path
// root, prepareRoot returns root. Otherwise it returns a folder under /var/lib/outboxie, and makes root a link to that folder.
func (a account) prepareRoot(root string) (string, error) {
	closed := a.barrier(root)
	if closed == "" {
		return root, a.own(root)
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("Postgres runs as user %s, who cannot reach its data folder %s, because the user may not enter %s: "+
			"open that folder with chmod o+x, or choose another data folder", a.name, root, closed)
	}
	target := filepath.Join("/var/lib/outboxie", fmt.Sprintf("%x", sha256.Sum256([]byte(root)))[:16])
	if err := os.RemoveAll(target); err != nil { // root is not a link to it, so nobody uses the data any more
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

// barrier returns the folder above path that the account may not enter, or an empty text if there is none.
func (a account) barrier(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && !a.enters(info) {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

func (a account) enters(info fs.FileInfo) bool {
	bit := fs.FileMode(0o001)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) == a.uid {
		bit = 0o100
	} else if ok && int(owner.Gid) == a.gid {
		bit = 0o010
	}
	return info.Mode()&bit != 0
}

// own makes the folder if it is missing, and gives the folder and its content to the account.
func (a account) own(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a folder for Postgres: %w", err)
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.uid, a.gid)
	})
}

// become makes this process run as the account. The process cannot become root again.
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
