package main

import (
	"context"
	"database/sql"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

const (
	patience = time.Minute
	token    = "a-token-for-the-tests"
)

// world has the servers of one test, and the binary.
type world struct {
	t        *testing.T
	folder   string
	binary   string
	database string
	broker   string
	db       *sql.DB
}

func TestMain(m *testing.M) {
	embedded.SuperviseIfAsked()
	flag.Parse()
	os.Exit(m.Run())
}

// newWorld starts the servers, and migrates the database with the binary.
func newWorld(t *testing.T) *world {
	t.Helper()
	// Not t.TempDir: if root runs the tests, Postgres runs as another user, who cannot reach that folder.
	folder, err := os.MkdirTemp("", "billing") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(folder, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	quiet := slog.New(slog.DiscardHandler)
	postgres, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{
		DataDir: filepath.Join(folder, "postgres"), Home: os.Getenv("OUTBOXIE_PG_HOME"), Logger: quiet,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, postgres.Stop()) })
	nats, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: filepath.Join(folder, "nats"), Open: true, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(nats.Stop)
	w := &world{t: t, folder: folder, database: postgres.URL(), broker: nats.URL(), binary: filepath.Join(folder, "billing")}
	w.build(w.binary, ".", ".", raceDetector()...)
	w.db, err = sql.Open("pgx", w.database)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.db.Close()) })
	output, err := w.command(w.binary, nil, "migrate").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return w
}

// build compiles a program.
func (w *world) build(into, folder, program string, flags ...string) {
	w.t.Helper()
	arguments := append([]string{"build", "-C", folder, "-o", into}, flags...)
	output, err := exec.CommandContext(w.t.Context(), "go", append(arguments, program)...).CombinedOutput()
	require.NoError(w.t, err, "%s", output)
}

// raceDetector returns the flag of the race detector if the tests have it.
func raceDetector() []string {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return []string{"-race"}
	}
	return nil
}

func (w *world) command(program string, environment []string, arguments ...string) *exec.Cmd {
	command := exec.Command(program, arguments...)
	command.Env = append(os.Environ(), "DATABASE_URL="+w.database, "NATS_URL="+w.broker, "ADMIN_TOKEN="+token)
	command.Env = append(command.Env, environment...)
	return command
}

// count returns the number that a query has as its only result.
func (w *world) count(query string, arguments ...any) (number int64) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRowContext(context.Background(), query, arguments...).Scan(&number))
	return number
}

// process is a process that is started again and again, with the same command.
type process struct {
	w           *world
	name        string
	program     string
	environment []string
	arguments   []string
	url         string // of its API, if it has one

	mu    sync.Mutex
	cmd   *exec.Cmd
	asked bool // the test ended it
	ended chan struct{}
}

// billing returns a process with these parts, which is not started.
func (w *world) billing(name, parts, mailer string, environment ...string) *process {
	w.t.Helper()
	address := freeAddress(w.t)
	return &process{
		w: w, name: name, program: w.binary, url: "http://" + address, environment: append(environment, "INSTANCE_ID="+name, "OUTBOX_LEASE_TTL=2s"),
		arguments: []string{"serve", "-parts", parts, "-http", address, "-admin", "127.0.0.1:0", "-mailer-url", mailer},
	}
}

// start starts the process. A process that ends without being asked fails the test.
func (p *process) start() {
	file, err := os.OpenFile(filepath.Join(p.w.folder, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(p.w.t, err)
	defer func() { _ = file.Close() }()
	command, ended := p.w.command(p.program, p.environment, p.arguments...), make(chan struct{})
	command.Stdout, command.Stderr = file, file
	require.NoError(p.w.t, command.Start())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.asked, p.ended = command, false, ended
	go func() {
		err := command.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.asked {
			p.w.t.Errorf("%s ended by itself: %v\n%s", p.name, err, p.log())
		}
		close(ended)
	}()
}

// signal sends a signal. end says that the process has to end by it.
func (p *process) signal(signal syscall.Signal, end bool) {
	p.mu.Lock()
	p.asked = p.asked || end
	_ = p.cmd.Process.Signal(signal) // if it has ended by itself, start has reported that
	p.mu.Unlock()
	if end {
		<-p.ended
	}
}

// stop asks the process to stop, and checks that it does so without an error.
func (p *process) stop() {
	p.signal(syscall.SIGTERM, true)
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.w.t.Errorf("%s ended with code %d after SIGTERM\n%s", p.name, code, p.log())
	}
}

// log returns the last lines of what the process wrote.
func (p *process) log() string {
	text, err := os.ReadFile(filepath.Join(p.w.folder, p.name+".log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// awaitAPI waits until the API answers.
func (p *process) awaitAPI() {
	p.w.t.Helper()
	require.Eventually(p.w.t, func() bool {
		answer, err := http.Get(p.url + "/invoices/none")
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusNotFound
	}, patience, 20*time.Millisecond, "%s", p.name)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// server serves handler until the test ends.
func server(t *testing.T, handler http.Handler) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}
