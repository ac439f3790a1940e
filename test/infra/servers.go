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

// PostgresServer is a Postgres for one test, with a migrated database. URL is the URL of the superuser. URL stays the same when the server
// is started again. A method that fails makes the test fail.
type PostgresServer struct {
	URL string

	t       testing.TB
	options embedded.PostgresOptions
	server  *embedded.Postgres
}

// Postgres starts a server for this test. The server ends with the test. Each of changes may change the options before the start.
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

// Stop shuts the server down in order, and cuts its connections.
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

// DataDir returns the folder with the server's data and configuration files.
func (s *PostgresServer) DataDir() string { return s.server.DataDir() }

// Kill ends the server as a crash would. After the next Start, all committed data is there.
func (s *PostgresServer) Kill() {
	s.t.Helper()
	if err := s.server.Kill(); err != nil {
		s.t.Errorf("kill Postgres: %v", err)
	}
	s.server = nil
}

// Tool returns the file of a program of the server's release, such as pgbench, or an error if the release does not have it.
func (s *PostgresServer) Tool(name string) (string, error) {
	return exec.LookPath(filepath.Join(s.server.Home(), "bin", name))
}

// NATSServer is a NATS with JetStream for one test. URL stays the same when the server is started again. A method that fails makes the test
// fail.
type NATSServer struct {
	URL string

	t       testing.TB
	options embedded.NATSOptions
	server  *embedded.NATS
}

// NATS starts a server for this test. The server ends with the test. Each of changes may change the options before the start.
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

// Stop shuts the server down, and cuts its connections.
func (s *NATSServer) Stop() {
	if s.server != nil {
		s.server.Stop()
		s.server = nil
	}
}
