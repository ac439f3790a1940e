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
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// superviseCommand is the hidden first argument that makes this program a supervisor.
const superviseCommand = "supervise-postgres"

// report is one thing that the supervisor tells the process that started it; one JSON document each, on standard output.
type report struct {
	Log     string `json:",omitempty"`
	Failure string `json:",omitempty"`
	Ready   *ready `json:",omitempty"`
}

// ready describes the started server.
type ready struct {
	Port    int
	PID     int
	Version string
	Home    string
	DataDir string
}

// SuperviseIfAsked turns the process into the supervisor of a Postgres server, and exits, when StartPostgres started it
// for that; otherwise it returns at once. Call it first thing in main and in TestMain of every program that calls
// StartPostgres: the supervisor is that same program.
func SuperviseIfAsked() {
	if len(os.Args) == 2 && os.Args[1] == superviseCommand {
		os.Exit(supervise())
	}
}

// supervise reads the options from standard input, starts the server, and stops it when standard input closes: at the
// owner's wish, or because the owner died.
func supervise() int {
	// The terminal's signals are for the owner, who stops us in his own time. Having asked for SIGPIPE, we outlive the
	// reader of our reports.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)

	var out sync.Mutex
	say := func(r report) {
		out.Lock()
		defer out.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(r) // nobody listens any more when it fails
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

// serve runs the server from its preparation to its end.
func serve(ctx context.Context, opts PostgresOptions, say func(report)) error {
	layout, err := prepare(opts)
	if err != nil {
		return err
	}
	defer layout.release()
	if opts.Temporary {
		defer func() { _ = os.RemoveAll(layout.root) }()
	}
	http.DefaultTransport = &download{ctx: ctx, say: say, next: http.DefaultTransport}

	s, err := start(opts, layout)
	if err != nil {
		return err
	}
	say(report{Ready: &ready{Port: s.port, PID: s.pid, Version: s.version, Home: s.home, DataDir: layout.root}})

	if s.wait(ctx) {
		return fmt.Errorf("Postgres died; its log is in %s", layout.temp)
	}
	return s.stop()
}

// wait returns true when the server died, false when ctx ended first.
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

// stop ends the server, by force if it does not want to go.
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

// alive reports whether the process runs. A dead one that was left to us is reaped.
func alive(pid int) bool {
	var status syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err == nil && got == pid {
		return false
	}
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// download lets go of a running download when the supervisor is told to end, and says that there is one.
type download struct {
	ctx  context.Context
	say  func(report)
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (d *download) RoundTrip(request *http.Request) (*http.Response, error) {
	if filepath.Ext(request.URL.Path) == ".jar" {
		d.say(report{Log: "downloading Postgres, once, from " + request.URL.String()})
	}
	response, err := d.next.RoundTrip(request.WithContext(d.ctx))
	if err != nil {
		d.say(report{Log: "download of Postgres failed: " + err.Error()})
	}
	return response, err
}
