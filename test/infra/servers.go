package infra

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// PostgresServer is a Postgres of one test's own, whose database is migrated. URL is that of its superuser. It does not change
// when the server is started again. Its methods fail the test when they cannot do what they say.
type PostgresServer struct {
	URL string

	t       testing.TB
	options embedded.PostgresOptions
	server  *embedded.Postgres
}

// Postgres starts a server for this test; it is gone when the test ends. Each change may alter its options first.
func Postgres(t testing.TB, changes ...func(*embedded.PostgresOptions)) *PostgresServer {
	t.Helper()
	s := &PostgresServer{t: t, options: embedded.PostgresOptions{
		DataDir: tempDir(t), Port: Port(t), Home: os.Getenv("OUTBOXIE_PG_HOME"), Logger: slog.New(slog.DiscardHandler),
	}}
	for _, change := range changes {
		change(&s.options)
	}
	t.Cleanup(s.Stop)
	s.Start()
	s.URL = s.server.SuperuserURL()
	if err := migrate(t.Context(), s.URL); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return s
}

// Start starts the server again on the same port and data.
func (s *PostgresServer) Start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	server, err := embedded.StartPostgres(ctx, s.options)
	if err != nil {
		s.t.Fatalf("start Postgres: %v", err)
	}
	s.server = server
}

// Stop shuts the server down in order; connections are cut.
func (s *PostgresServer) Stop() {
	s.t.Helper()
	if s.server == nil {
		return
	}
	if err := s.server.Stop(); err != nil {
		s.t.Errorf("stop Postgres: %v", err)
	}
	s.server = nil
}

// DataDir is where the server's data really lies, and its files of configuration.
func (s *PostgresServer) DataDir() string { return s.server.DataDir() }

// Kill ends the server as a crash would. What was committed is there after the next Start.
func (s *PostgresServer) Kill() {
	s.t.Helper()
	if err := s.server.Kill(); err != nil {
		s.t.Errorf("kill Postgres: %v", err)
	}
	s.server = nil
}

// Tool is a program that belongs to the server's release, such as pgbench, or an error when there is none.
func (s *PostgresServer) Tool(name string) (string, error) {
	return exec.LookPath(filepath.Join(s.server.Home(), "bin", name))
}

// NATSServer is a NATS with JetStream of one test's own. URL does not change when it is started again. Its methods fail
// the test when they cannot do what they say.
type NATSServer struct {
	URL string

	t       testing.TB
	options embedded.NATSOptions
	server  *embedded.NATS
}

// NATS starts a server for this test; it is gone when the test ends. Each change may alter its options first.
func NATS(t testing.TB, changes ...func(*embedded.NATSOptions)) *NATSServer {
	t.Helper()
	s := &NATSServer{t: t, options: embedded.NATSOptions{
		StoreDir: tempDir(t), Port: Port(t), Open: true, Logger: slog.New(slog.DiscardHandler),
	}}
	for _, change := range changes {
		change(&s.options)
	}
	t.Cleanup(s.Stop)
	s.Start()
	s.URL = s.server.URL()
	return s
}

// Start starts the server again on the same port and store.
func (s *NATSServer) Start() {
	s.t.Helper()
	server, err := embedded.StartNATS(s.options)
	if err != nil {
		s.t.Fatalf("start NATS: %v", err)
	}
	s.server = server
}

// Stop shuts the server down; connections are cut.
func (s *NATSServer) Stop() {
	if s.server != nil {
		s.server.Stop()
		s.server = nil
	}
}
