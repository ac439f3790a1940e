package infra

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// Standby starts a streaming standby of primary. The standby is asynchronous, unless the primary is configured otherwise. pg_promote()
// makes it a primary.
func Standby(t testing.TB, primary *PostgresServer) *PostgresServer {
	t.Helper()
	s := &PostgresServer{t: t, options: embedded.PostgresOptions{
		DataDir: tempDir(t), Port: Port(t), Home: primary.server.Home(), Logger: slog.New(slog.DiscardHandler),
	}}
	copying := exec.CommandContext(t.Context(), filepath.Join(primary.server.Home(), "bin", "pg_basebackup"),
		"--dbname", primary.URL, "--pgdata", filepath.Join(s.options.DataDir, "data"), "--write-recovery-conf", "--checkpoint=fast")
	copying.Env = append(os.Environ(), "LC_ALL=C")
	if said, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("copy the primary: %v\n%s", err, said)
	}
	lock := filepath.Join(s.options.DataDir, "lock") // this file marks the folder as one of package embedded
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	secrets, err := os.ReadFile(filepath.Join(primary.DataDir(), "pgpass")) // the standby has the roles of the primary, so the passwords too
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.options.DataDir, "pgpass"), secrets, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	s.Start()
	s.URL = s.server.SuperuserURL()
	return s
}

// StartAsStandby starts a stopped server as a standby. The standby follows no primary.
func (s *PostgresServer) StartAsStandby() {
	s.t.Helper()
	signal := filepath.Join(s.options.DataDir, "data", "standby.signal")
	if err := os.WriteFile(signal, nil, 0o644); err != nil { //nolint:gosec // Postgres may run as another user
		s.t.Fatal(err)
	}
	s.Start()
}
