package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	postgres "github.com/fergusstrange/embedded-postgres"
)

// server is a started Postgres, as its supervisor handles it.
type server struct {
	library *postgres.EmbeddedPostgres
	binaries
	passwords passwords
	port      int
	pid       int
}

// start starts the server on the prepared folders.
func start(ctx context.Context, opts PostgresOptions, l *layout, found binaries) (*server, error) {
	if err := checkVersion(l.data, found); err != nil {
		return nil, err
	}
	if found.download {
		reserved, err := found.reserve()
		if err != nil {
			return nil, err
		}
		defer func() { _ = reserved.Close() }()
	}
	if _, err := os.Stat(filepath.Join(l.data, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(l.fresh, nil, 0o600); err != nil {
			return nil, fmt.Errorf("mark the data folder of Postgres: %w", err)
		}
	}
	secrets, err := passwordsOf(ctx, l, found)
	if err != nil {
		return nil, err
	}
	s, err := startOnPort(ctx, opts, l, found, secrets)
	if err != nil {
		return nil, found.explain(err)
	}
	if err := secureRoles(ctx, s.port, secrets); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if found.download {
		if err := found.complete(); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	if s.binaries, err = inspect(found.home); err != nil { // the version of a downloaded Postgres is known only now
		return nil, errors.Join(err, s.stop())
	}
	if err := os.Remove(l.fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("unmark the data folder of Postgres: %w", err), s.stop())
	}
	return s, nil
}

// startOnPort starts the server, and tries again if another try can help: if another process took the free port, or if processes of a
// killed server have not ended yet.
func startOnPort(ctx context.Context, opts PostgresOptions, l *layout, found binaries, secrets passwords) (*server, error) {
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		port, err := choosePort(opts.Port)
		if err != nil {
			return nil, err
		}
		library := postgres.NewDatabase(configuration(opts, l, found, secrets, port))
		if err = library.Start(); err == nil {
			pid, err := postmasterPID(l.data)
			if err != nil {
				return nil, errors.Join(err, library.Stop())
			}
			return &server{library: library, binaries: found, passwords: secrets, port: port, pid: pid}, nil
		}
		snatched := opts.Port == 0 && (strings.Contains(err.Error(), "already listening") || strings.Contains(err.Error(), "could not bind"))
		lingering := strings.Contains(err.Error(), "pre-existing shared memory block")
		if !snatched && !lingering || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("start Postgres from %s on %s: %w", found.home, l.data, err)
		}
	}
}

func configuration(opts PostgresOptions, l *layout, found binaries, secrets passwords, port int) postgres.Config {
	parameters := map[string]string{
		"listen_addresses":          "127.0.0.1",
		"unix_socket_directories":   "",
		"max_connections":           "200",
		"max_prepared_transactions": "10",
		"fsync":                     "on",
		"full_page_writes":          "on",
		"synchronous_commit":        "on",
	}
	maps.Copy(parameters, opts.Parameters)
	config := postgres.DefaultConfig().
		Version(postgres.PostgresVersion(found.version)).
		BinariesPath(found.home).
		CachePath(opts.CacheDir).
		RuntimePath(l.run).
		DataPath(l.data).
		Port(uint32(port)).
		Username(superuser).
		Password(secrets.superuser).
		Database(databaseName).
		Locale("C").
		Encoding("UTF8").
		StartParameters(parameters).
		StartTimeout(30 * time.Second).
		Logger(io.Discard)
	if opts.BinaryRepositoryURL != "" {
		config = config.BinaryRepositoryURL(strings.TrimSuffix(opts.BinaryRepositoryURL, "/"))
	}
	return config
}

func choosePort(wanted int) (int, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", wanted))
	if err != nil {
		return 0, fmt.Errorf("Postgres cannot listen on port %d: stop the program that uses the port, or choose another port: %w", wanted, err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// checkVersion refuses data of another major version, because the library would delete such data.
func checkVersion(data string, found binaries) error {
	written, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the version of the data in %s: %w", data, err)
	}
	if version := strings.TrimSpace(string(written)); version != found.major() {
		return fmt.Errorf("the data in %s was written by Postgres %s, but the Postgres to run it is %s (%s): "+
			"install Postgres %s, name it with OUTBOXIE_PG_HOME, or start with --fresh, which deletes the data",
			data, version, found.version, found.home, version)
	}
	return nil
}

// postmasterPID reads the process id that a running server left in its data folder.
func postmasterPID(data string) (int, error) {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("read Postgres' process id: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("read Postgres' process id: postmaster.pid begins with %q", first)
	}
	return pid, nil
}

// command returns the command line of a process, or an empty text if there is no such process.
func command(pid int) string {
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		return strings.ReplaceAll(string(line), "\x00", " ")
	}
	line, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(line)
}

// stopStale ends the server of a data folder if the server's supervisor was killed. Do not call it while a supervisor still runs the server.
func stopStale(data string) error {
	pid, err := postmasterPID(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && strings.Contains(command(pid), "-D "+data+" ") {
		return endStale(pid, data)
	}
	if err == nil && strings.Contains(command(pid), "postgres") {
		return nil // perhaps a server runs on this data: the file stays, so the new Postgres refuses to start and names that process
	}
	// The number may now belong to another process, and then Postgres would not start.
	if err := os.Remove(filepath.Join(data, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the stale process id of Postgres: %w", err)
	}
	return nil
}

func endStale(pid int, data string) error {
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop the Postgres, process %d, that was left behind on %s: %w", pid, data, err)
	}
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if command(pid) == "" { // the process has ended, or is a zombie
			return nil
		}
	}
	return fmt.Errorf("the Postgres, process %d, that was left behind on %s does not stop", pid, data)
}
