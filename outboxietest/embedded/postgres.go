// Package embedded starts a real Postgres and a real NATS server for development and tests. A program calls SuperviseIfAsked first in main or
// TestMain, and then StartPostgres and StartNATS.
//
// Postgres runs under a supervisor, which is the same program started again. The supervisor gives up the rights of root, with which Postgres
// refuses to run, and stops Postgres as soon as the process that started it is gone. NATS runs inside the process.
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

// The database, the role that owns it, and the superuser, which the application never is. The server listens on loopback, where
// every user of the machine can reach it: the roles' passwords are random, and of this server alone.
const (
	databaseName  = "outboxie"
	databaseOwner = "outboxie_owner"
	superuser     = "outboxie"
)

// PostgresOptions says which server to start and where its data lives.
type PostgresOptions struct {
	DataDir   string // a folder of the server's own; it is made when missing, and its data survives restarts
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

// StartPostgres starts a server and returns once it accepts connections: after about a second on an empty DataDir, a
// fifth of that on an existing one. It looks for the server in Home, then for the newest installed one, then downloads
// one; the error names every option when there is none. The server stops when Stop is called or this process dies.
//
// A cancelled ctx ends the start, not the server once it is started.
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

// launch starts the supervisor and waits for its verdict.
func launch(ctx context.Context, opts PostgresOptions) (*Postgres, error) {
	program, err := self()
	if err != nil {
		return nil, fmt.Errorf("start the Postgres supervisor: %w", err)
	}
	var stderr bytes.Buffer
	// No CommandContext: the supervisor is not killed, it stops Postgres in order when its standard input closes.
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
		_ = p.Stop() // the reason to give is the caller's own
		return nil, fmt.Errorf("start Postgres: %w", context.Cause(ctx))
	}
}

// listen relays what the supervisor says until it ends, and returns the server it started and the failure it reported.
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

// sweep does what a supervisor that was killed could not do, or was not allowed to.
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

// URL is where to connect, as the owner of the database outboxie. The role is no superuser. The URL holds its password.
func (p *Postgres) URL() string {
	return databaseURL(databaseOwner, p.ready.OwnerPassword, p.ready.Port)
}

// SuperuserURL is where to connect as the superuser. The URL holds its password.
func (p *Postgres) SuperuserURL() string {
	return databaseURL(superuser, p.ready.SuperuserPassword, p.ready.Port)
}

func databaseURL(role, password string, port int) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", role, password, port, databaseName)
}

// Port is the port on 127.0.0.1 that the server listens on.
func (p *Postgres) Port() int { return p.ready.Port }

// PID is the process id of the postmaster.
func (p *Postgres) PID() int { return p.ready.PID }

// Version is the server's version, for example "15.18".
func (p *Postgres) Version() string { return p.ready.Version }

// Home is the folder whose bin/postgres runs.
func (p *Postgres) Home() string { return p.ready.Home }

// DataDir is where the data really lies. It differs from the folder asked for only when root asked for one that the
// server's own user cannot reach; then that folder is a link to this one.
func (p *Postgres) DataDir() string { return p.ready.DataDir }

// Done is closed when the server has stopped, by Stop or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.done }

// Stop shuts the server down in order, disconnecting all clients, and returns when it is gone: with an
// error if it did not end well, by itself or now.
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
	_ = p.Stop() // reports the death that was asked for
	return nil
}

// self names this program's file in a way that works even when the file is out of reach by its path.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// defaultCacheDir is the user's cache folder; root's is closed to the user that the server runs as.
func defaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil || os.Geteuid() == 0 {
		dir = "/var/cache"
	}
	return filepath.Join(dir, "outboxie", "postgres")
}
