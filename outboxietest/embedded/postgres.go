// Package embedded starts a real Postgres and a real NATS server for development and tests. A program calls SuperviseIfAsked first in main or
// TestMain, and then StartPostgres and StartNATS.
//
// Postgres runs under a supervisor, which is the same program started again. Postgres refuses to run as root, so the supervisor gives up the
// rights of root. It stops Postgres as soon as the process that started the supervisor is gone. NATS runs inside the process.
package embedded

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// The database, the role that owns the database, and the superuser. The application never logs in as the superuser. Every user of the
// machine can reach the server, because it listens on loopback. So the passwords of the roles are random, and each server has its own.
const (
	databaseName  = "outboxie"
	databaseOwner = "outboxie_owner"
	superuser     = "outboxie"
)

// PostgresOptions says which server to start, and where its data is.
type PostgresOptions struct {
	DataDir   string // a folder for this server only; made if missing; its data survives restarts
	Port      int    // on 127.0.0.1; 0 picks a free one
	Temporary bool   // remove DataDir when the server has stopped

	Home                string   // folder that holds bin/postgres (OUTBOXIE_PG_HOME); empty: look for an installed one
	Search              []string // glob patterns of such folders; nil: where packages put them
	CacheDir            string   // where a downloaded Postgres is kept; empty: the cache folder of the user
	BinaryRepositoryURL string   // Maven repository to download from; empty: Maven Central
	Version             string   // what to download; empty: a recent one

	Parameters map[string]string // further server parameters; they win over the package's own
	Logger     *slog.Logger      `json:"-"` // nil: slog.Default()
}

// Postgres is a running server. Its methods may be called from several goroutines.
type Postgres struct {
	ready  ready
	opts   PostgresOptions
	stdin  io.Closer // closing it tells the supervisor to stop the server
	done   chan struct{}
	failed error // why the server did not end well; written before done is closed
}

// StartPostgres starts a server, and returns when the server accepts connections. It uses the Postgres in Home, or else the newest installed one, or else it downloads one. If the
// download fails, the error names every option. The server stops when Stop is called or when this process dies.
//
// A cancelled ctx ends the start. It does not end a server that has started.
func StartPostgres(ctx context.Context, opts PostgresOptions) (*Postgres, error) {
	if !prepared.Load() {
		return nil, errors.New("start Postgres: main (or TestMain) must call embedded.SuperviseIfAsked first")
	}
	if opts.DataDir == "" {
		return nil, errors.New("start Postgres: it needs a data folder")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.CacheDir == "" {
		opts.CacheDir = defaultCacheDir()
	}
	var err error
	for _, dir := range []*string{&opts.DataDir, &opts.Home, &opts.CacheDir} {
		if *dir == "" {
			continue
		}
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, fmt.Errorf("start Postgres: %w", err)
		}
	}
	return launch(ctx, opts)
}

// launch starts the supervisor, and waits until the supervisor reports success or failure.
func launch(ctx context.Context, opts PostgresOptions) (*Postgres, error) {
	program, err := self()
	if err != nil {
		return nil, fmt.Errorf("start the Postgres supervisor: %w", err)
	}
	var stderr bytes.Buffer
	// CommandContext would kill the supervisor. Instead its standard input is closed, and the supervisor stops Postgres in order.
	cmd := exec.Command(program)
	cmd.Args = []string{os.Args[0], superviseCommand}
	cmd.Dir = "/"
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C in the terminal is for the application alone
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the Postgres supervisor: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the Postgres supervisor: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the Postgres supervisor: %w", err)
	}
	p := &Postgres{opts: opts, stdin: stdin, done: make(chan struct{})}
	started := make(chan ready, 1)
	go func() {
		defer close(p.done)
		server, problem := p.listen(stdout, started)
		if err := cmd.Wait(); problem == nil && err != nil {
			problem = fmt.Errorf("the Postgres supervisor ended: %w %s", err, strings.TrimSpace(stderr.String()))
		}
		p.failed = errors.Join(problem, sweep(server, opts))
	}()
	if err := json.NewEncoder(stdin).Encode(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("instruct the Postgres supervisor: %w", err), p.Stop())
	}
	select {
	case p.ready = <-started:
		return p, nil
	case <-p.done:
		return nil, cmp.Or(p.failed, errors.New("the Postgres supervisor ended before the server was ready"))
	case <-ctx.Done():
		_ = p.Stop() // the error is the caller's cancellation
		return nil, fmt.Errorf("start Postgres: %w", context.Cause(ctx))
	}
}

// listen reads the reports of the supervisor until the supervisor ends. It returns the started server and the reported failure.
func (p *Postgres) listen(stdout io.Reader, started chan<- ready) (server ready, problem error) {
	for decoder := json.NewDecoder(stdout); ; {
		var said report
		if err := decoder.Decode(&said); err != nil {
			return server, problem
		}
		switch {
		case said.Ready != nil:
			server = *said.Ready
			started <- server
		case said.Failure != "":
			problem = errors.New(said.Failure)
		default:
			p.opts.Logger.Info(said.Log)
		}
	}
}

// sweep stops a server that a killed supervisor left behind. It removes temporary data, also files that the supervisor has no right to remove.
func sweep(server ready, opts PostgresOptions) error {
	var err error
	if server.PID != 0 {
		err = stopStale(filepath.Join(server.DataDir, "data"))
	}
	if opts.Temporary {
		if target, err := filepath.EvalSymlinks(opts.DataDir); err == nil {
			_ = os.RemoveAll(target)
		}
		_ = os.Remove(opts.DataDir)
	}
	return err
}

// URL returns the address for a connection as the owner of the database outboxie, who is not a superuser. The URL holds the password.
func (p *Postgres) URL() string {
	return databaseURL(databaseOwner, p.ready.OwnerPassword, p.ready.Port)
}

// SuperuserURL returns the address for a connection as the superuser. The URL holds the password.
func (p *Postgres) SuperuserURL() string {
	return databaseURL(superuser, p.ready.SuperuserPassword, p.ready.Port)
}

func databaseURL(role, password string, port int) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", role, password, port, databaseName)
}

// Port returns the port on 127.0.0.1 that the server listens on.
func (p *Postgres) Port() int { return p.ready.Port }

// PID returns the process id of the postmaster.
func (p *Postgres) PID() int { return p.ready.PID }

// Version returns the server's version, for example "15.18".
func (p *Postgres) Version() string { return p.ready.Version }

// Home returns the folder whose bin/postgres runs.
func (p *Postgres) Home() string { return p.ready.Home }

// DataDir returns the folder where the data really is. It differs from PostgresOptions.DataDir only if root named a folder that the
// server's own user cannot reach. Then the named folder is a link to the real one.
func (p *Postgres) DataDir() string { return p.ready.DataDir }

// Done is closed when the server has stopped, by Stop or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.done }

// Stop disconnects all clients, shuts the server down in order, and returns when the server has ended. It returns an error if the server
// did not end well, during Stop or earlier.
func (p *Postgres) Stop() error {
	_ = p.stdin.Close() // the supervisor may be gone already, and the server with it
	<-p.done
	return p.failed
}

// Kill ends the server at once, as a crash would: no checkpoint, connections are cut, and the next start recovers from
// the write-ahead log. It returns when the server is gone.
func (p *Postgres) Kill() error {
	if err := syscall.Kill(p.ready.PID, syscall.SIGQUIT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill Postgres: %w", err)
	}
	<-p.done
	_ = p.Stop() // its error is the end that Kill caused
	return nil
}

// self returns a path of this program's file that works even if the file cannot be reached by its own path.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// defaultCacheDir returns the user's cache folder. For root it is another folder, because the server's user cannot reach root's cache.
func defaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil || os.Geteuid() == 0 {
		dir = "/var/cache"
	}
	return filepath.Join(dir, "outboxie", "postgres")
}
