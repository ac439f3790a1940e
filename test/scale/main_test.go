// Package scale_test runs the program beyond one machine's needs: against a cluster of NATS, a Postgres with a standby,
// through PgBouncer, over TLS, and with no more rights than each part needs. Everything is real, and on loopback.
package scale_test

import (
	"database/sql"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/nats-io/nats.go/jetstream"
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

// placeMany places orders.
func placeMany(t *testing.T, api string, orders int) {
	t.Helper()
	for range orders {
		require.Equal(t, http.StatusCreated, placeOne(t, api))
	}
}

// placeOne places an order, and returns the status of the answer.
func placeOne(t *testing.T, api string) int {
	t.Helper()
	const order = `{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 1.00}`
	var status int
	require.Eventually(t, func() bool { // while Postgres is away the answer is 503
		response, err := http.Post("http://"+api+"/orders", "application/json", strings.NewReader(order))
		if err != nil {
			return false
		}
		defer response.Body.Close()
		status = response.StatusCode
		return status < http.StatusInternalServerError
	}, patience, 50*time.Millisecond)
	return status
}

// stored waits until the stream holds exactly so many messages.
func stored(t *testing.T, js jetstream.JetStream, messages int) {
	t.Helper()
	var last uint64
	require.Eventually(t, func() bool {
		if stream, err := js.Stream(t.Context(), "ORDERS"); err == nil {
			last = stream.CachedInfo().State.LastSeq
		}
		return last >= uint64(messages)
	}, patience, 10*time.Millisecond, "the stream does not get there")
	require.EqualValues(t, messages, last)
}

// outboxie runs a command to its end, wants that exit code, and returns what it said.
func outboxie(t *testing.T, environment []string, code int, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), infra.Binary(t), args...)
	cmd.Env, cmd.Dir = append(os.Environ(), environment...), t.TempDir()
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.Equal(t, code, cmd.ProcessState.ExitCode(), "%s: %s", args, said)
	return string(said)
}
