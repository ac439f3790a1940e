package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// superviseCommand is the hidden first argument that makes this program a supervisor.
const superviseCommand = "supervise-postgres"

// report is a message of the supervisor to the process that started it. Each report is one JSON document on standard output.
type report struct {
	Log     string `json:",omitempty"`
	Failure string `json:",omitempty"`
	Ready   *ready `json:",omitempty"`
}

// prepared is whether SuperviseIfAsked was called. Without that call, the supervisor would be a second copy of the program, and would start
// a third.
var prepared atomic.Bool

// ready describes the started server.
type ready struct {
	Port    int
	PID     int
	Version string
	Home    string
	DataDir string

	OwnerPassword     string
	SuperuserPassword string
}

// SuperviseIfAsked makes the process the supervisor of a Postgres server if StartPostgres started the process for that. Then it does not
// return, but exits. Otherwise it returns at once. Call it first in main and in TestMain of every program that calls StartPostgres, because
// the supervisor is the same program.
func SuperviseIfAsked() {
	prepared.Store(true)
	if len(os.Args) == 2 && os.Args[1] == superviseCommand {
		os.Exit(supervise())
	}
}

// supervise reads the options from standard input, starts the server, and stops the server when standard input closes. Standard input closes
// when the owner closes it, or when the owner dies.
func supervise() int {
	// The signals of the terminal are for the owner, which stops the supervisor later. SIGPIPE is caught too, so the supervisor goes on if
	// nobody reads its reports.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)

	var out sync.Mutex
	say := func(r report) {
		out.Lock()
		defer out.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(r) // it fails only if nobody reads the reports any more
	}
	var opts PostgresOptions
	if err := json.NewDecoder(os.Stdin).Decode(&opts); err != nil {
		say(report{Failure: "supervise-postgres is started by the program itself, not by hand: " + err.Error()})
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				cancel()
			}
		}
	}()
	if err := serve(ctx, opts, say); err != nil {
		say(report{Failure: err.Error()})
		return 1
	}
	return 0
}

// serve prepares the folders, runs the server, and returns when the server has ended.
func serve(ctx context.Context, opts PostgresOptions, say func(report)) error {
	clearEnvironment()
	adoptOrphans()
	place, found, err := prepare(opts)
	if err != nil {
		return err
	}
	defer place.release()
	context.AfterFunc(ctx, func() { _ = place.inscribe(stopping) })
	if opts.Temporary {
		defer func() { _ = os.RemoveAll(place.root) }()
	}
	fetch := &download{ctx: ctx, say: say, next: http.DefaultTransport}
	http.DefaultTransport = fetch // the library downloads through it

	s, err := start(ctx, opts, place, found)
	if err != nil {
		return errors.Join(err, fetch.failed)
	}
	say(report{Ready: &ready{
		Port: s.port, PID: s.pid, Version: s.version, Home: s.home, DataDir: place.root,
		OwnerPassword: s.passwords.owner, SuperuserPassword: s.passwords.superuser,
	}})

	if s.wait(ctx) {
		return fmt.Errorf("the Postgres server died; the end of its log:\n%s", place.logTail())
	}
	return s.stop()
}

// clearEnvironment removes variables that would lead Postgres' programs, or the connection to the server, to another place.
func clearEnvironment() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name)
		}
	}
	_ = os.Setenv("LC_ALL", "C") // C exists everywhere; without a locale, Postgres on macOS refuses to start
}

// wait returns true when the server has died, or false if ctx ends first.
func (s *server) wait(ctx context.Context) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if !alive(s.pid) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// stop ends the server, by force if the server does not end in order.
func (s *server) stop() error {
	err := s.library.Stop()
	if err == nil {
		return nil
	}
	_ = syscall.Kill(s.pid, syscall.SIGQUIT)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !alive(s.pid) {
			return fmt.Errorf("Postgres did not stop in order (%w) and was ended by force", err)
		}
	}
	return fmt.Errorf("Postgres, process %d, cannot be stopped: %w", s.pid, err)
}

// alive reports whether the process runs. It reaps a dead process that is a child of this one.
func alive(pid int) bool {
	var status syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err == nil && got == pid {
		return false
	}
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// download is the HTTP transport of the library's download. It reports that the download runs, and ends the download when ctx ends.
type download struct {
	ctx    context.Context
	say    func(report)
	next   http.RoundTripper
	failed error // the last failure, because the library does not return the reason
}

// RoundTrip implements http.RoundTripper.
func (d *download) RoundTrip(request *http.Request) (*http.Response, error) {
	if path.Ext(request.URL.Path) == ".jar" {
		d.say(report{Log: "downloading Postgres (only the first time) from " + request.URL.String()})
	}
	response, err := d.next.RoundTrip(request.WithContext(d.ctx))
	switch {
	case err != nil:
		d.failed = err
	case response.StatusCode != http.StatusOK:
		d.failed = fmt.Errorf("%s answers %s", request.URL, response.Status)
	}
	return response, err
}
