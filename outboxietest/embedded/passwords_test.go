package embedded_test

import (
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// attempt runs statements, and returns the error of the first statement that fails.
func attempt(t *testing.T, url string, statements ...string) error {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			return err
		}
	}
	return nil
}

// as returns a server's address with another role and password.
func as(t *testing.T, address, role, password string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	parsed.User = url.UserPassword(role, password)
	return parsed.String()
}

// passwordIn returns the password in a URL.
func passwordIn(t *testing.T, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	password, _ := parsed.User.Password()
	require.NotEmpty(t, password)
	return password
}

func requireMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, mode, info.Mode().Perm(), path)
}

// TestNeighboursOfPostgres checks that other users of the machine who reach the port but not the folder are refused, and that the
// application has no rights of a superuser.
func TestNeighboursOfPostgres(t *testing.T) {
	t.Parallel()
	opts := options(folder(t))
	require.NoError(t, os.MkdirAll(opts.DataDir, 0o755)) //nolint:gosec // as an older version made it
	server := start(t, opts)
	requireMode(t, opts.DataDir, 0o700)
	requireMode(t, filepath.Join(opts.DataDir, "data"), 0o700)
	requireMode(t, filepath.Join(opts.DataDir, "pgpass"), 0o600)
	for _, guess := range []string{
		as(t, server.URL(), "outboxie", "outboxie"), as(t, server.URL(), "outboxie_owner", "outboxie_owner"),
		as(t, server.URL(), "postgres", "postgres"), as(t, server.URL(), "outboxie", passwordIn(t, server.URL())),
	} {
		require.ErrorContains(t, attempt(t, guess, "SELECT 1"), "password authentication failed")
	}

	require.NoError(t, attempt(t, server.URL(), "CREATE TABLE mine (id int)", "DROP TABLE mine"), "the database is the application's")
	for _, statement := range []string{
		"COPY (SELECT 1) TO PROGRAM 'cat'", "COPY pg_class FROM '/etc/passwd'", "SELECT pg_read_file('/etc/passwd')",
		"CREATE ROLE other SUPERUSER", "ALTER ROLE outboxie PASSWORD 'x'", "SET ROLE outboxie", "ALTER SYSTEM SET fsync = off",
	} {
		require.ErrorContains(t, attempt(t, server.URL(), statement), "(SQLSTATE 42501)", statement)
	}
	require.NoError(t, attempt(t, server.SuperuserURL(), "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null'"), "such a role can do that")
	stop(t, server)

	again := start(t, opts)
	require.Equal(t, passwordIn(t, server.URL()), passwordIn(t, again.URL()), "addresses of earlier runs go on to work")
	stop(t, again)
	other := start(t, options(seeded(t)))
	require.NotEqual(t, passwordIn(t, server.URL()), passwordIn(t, other.URL()))
	stop(t, other)
}

// TestPostgresOfAnOlderVersion checks that a folder in which the application was a superuser with a well-known password is made safe.
func TestPostgresOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	opts := options(seeded(t))
	server := start(t, opts)
	require.NoError(t, attempt(t, server.SuperuserURL(), "ALTER DATABASE outboxie OWNER TO outboxie", "DROP ROLE outboxie_owner",
		"ALTER ROLE outboxie PASSWORD 'outboxie'"))
	old := as(t, server.URL(), "outboxie", "outboxie")
	require.NoError(t, attempt(t, old, "CREATE TABLE t AS SELECT 'kept'::text AS v", "CREATE SCHEMA mine", "CREATE TYPE mine.mood AS ENUM ('good')",
		`CREATE TABLE mine."T 2" (id serial PRIMARY KEY, m mine.mood)`, "CREATE SEQUENCE free", "CREATE VIEW v AS SELECT * FROM t",
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", "CREATE TYPE pair AS (a int, b int)"))
	require.NoError(t, server.Kill()) // its log has to be replayed first
	require.NoError(t, os.Remove(filepath.Join(opts.DataDir, "pgpass")))
	require.NoError(t, os.Chmod(opts.DataDir, 0o755)) //nolint:gosec // as an older version made it

	opts.Port = server.Port()
	upgraded := start(t, opts)
	require.ErrorContains(t, attempt(t, old, "SELECT 1"), "password authentication failed")
	requireMode(t, opts.DataDir, 0o700)
	require.Equal(t, "kept", query(t, upgraded.URL(), "SELECT v FROM t"))
	require.NoError(t, attempt(t, upgraded.URL(), `ALTER TABLE mine."T 2" ADD x int`, `INSERT INTO mine."T 2" (m) VALUES ('good')`,
		"ALTER TYPE mine.mood ADD VALUE 'better'", "ALTER SEQUENCE free RESTART", "DROP VIEW v", "DROP FUNCTION f()", "DROP TYPE pair",
		"DROP TABLE t", "DROP SCHEMA mine CASCADE"))
	require.ErrorContains(t, attempt(t, upgraded.URL(), "COPY (SELECT 1) TO PROGRAM 'cat'"), "(SQLSTATE 42501)")
	stop(t, upgraded)

	// A folder whose passwords are lost gets new ones. A file that holds something else is not touched.
	file := filepath.Join(opts.DataDir, "pgpass")
	require.NoError(t, os.Remove(file))
	found := start(t, opts)
	require.NotEqual(t, upgraded.URL(), found.URL())
	require.Equal(t, "1", query(t, found.URL(), "SELECT '1'"))
	stop(t, found)
	require.NoError(t, os.WriteFile(file, []byte("*:*:*:outboxie:x\n"), 0o600))
	_, err := embedded.StartPostgres(t.Context(), opts)
	require.ErrorContains(t, err, file+" does not hold the passwords of outboxie and outboxie_owner: remove the file")
}

// TestPasswordThatCannotBeSet checks that the start fails with the reason, and that the error does not contain the new password.
func TestPasswordThatCannotBeSet(t *testing.T) {
	t.Parallel()
	opts := options(seeded(t))
	require.NoError(t, os.Remove(filepath.Join(opts.DataDir, "pgpass")))
	config := filepath.Join(opts.DataDir, "data", "postgresql.conf")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, append(text, "default_transaction_read_only = on\nlog_min_error_statement = error\n"...), 0o600))
	_, err = embedded.StartPostgres(t.Context(), opts)
	require.ErrorContains(t, err, "give the superuser of the Postgres in "+opts.DataDir)
	require.ErrorContains(t, err, "read-only transaction")
	require.ErrorContains(t, err, "PASSWORD '…'", "the log of Postgres quotes the statement")
	require.NoFileExists(t, filepath.Join(opts.DataDir, "pgpass"), "so the next start tries again")
}

// TestNeighboursOfNATS checks that other users of the machine who reach the port but not the folder are refused.
func TestNeighboursOfNATS(t *testing.T) {
	t.Parallel()
	opts := natsOptions(t)
	require.NoError(t, os.Chmod(opts.StoreDir, 0o755)) //nolint:gosec // as somebody made it
	server := startNATS(t, opts)
	requireMode(t, opts.StoreDir, 0o700)
	requireMode(t, filepath.Join(opts.StoreDir, "password"), 0o600)
	require.NoError(t, dial(t, server.URL()).Conn().Flush())
	password := passwordIn(t, server.URL())
	for _, guess := range []string{
		strings.Replace(server.URL(), "outboxie:"+password+"@", "", 1), as(t, server.URL(), "outboxie", "outboxie"),
		as(t, server.URL(), "other", password),
	} {
		requireNATSRefuses(t, guess)
	}
	server.Stop()
	again := startNATS(t, opts)
	require.Equal(t, password, passwordIn(t, again.URL()))
	again.Stop()

	require.NoError(t, os.WriteFile(filepath.Join(opts.StoreDir, "password"), []byte("\n"), 0o600))
	_, err := embedded.StartNATS(opts)
	require.ErrorContains(t, err, "password is empty: remove the file")

	open := natsOptions(t)
	open.Open = true
	require.NotContains(t, startNATS(t, open).URL(), "@")
}
