// Package scale_test runs the program beyond one machine's needs: against a cluster of NATS, a Postgres with a standby,
// through PgBouncer, over TLS, and with no more rights than each part needs. Everything is real, and on loopback.
package scale_test

import (
	"database/sql"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m) }

// patience bounds what is waited for; elections of a cluster take up to ten seconds, and may have to be repeated.
const patience = time.Minute

// serve starts an instance.
func serve(t *testing.T, id string, environment []string) *infra.Process {
	t.Helper()
	return infra.Launch(t, append([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environment...), "serve")
}

// subscribe starts a copy of a subscriber.
func subscribe(t *testing.T, id string, environment []string) *infra.Process {
	t.Helper()
	return infra.Launch(t, append([]string{"LOG_LEVEL=warn"}, environment...), "subscribe", "--id", id)
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func count(t *testing.T, db *sql.DB, query string, arguments ...any) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow(query, arguments...).Scan(&n))
	return n
}
