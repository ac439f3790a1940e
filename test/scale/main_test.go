//go:build scale

// Package scale_test runs the program as production does: on a cluster of NATS, on a Postgres with a standby, through PgBouncer, over TLS, and
// with no more rights than each part needs. Everything is real, and on loopback. `make test-scale` runs it: it needs a PgBouncer and a HAProxy,
// so it is no part of `go test ./...`.
package scale_test

import (
	"database/sql"
	"errors"
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

// waitTimeout bounds every wait. Elections of a cluster take up to ten seconds, and may have to be repeated.
const waitTimeout = time.Minute

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

// placeMany places orders. It repeats a request until it succeeds, for example while Postgres is down.
func placeMany(t *testing.T, api string, orders int) {
	t.Helper()
	for range orders {
		require.Eventually(t, func() bool { _, err := infra.Place(api); return err == nil }, waitTimeout, 50*time.Millisecond)
	}
}

// stored waits until the stream holds exactly this number of messages.
func stored(t *testing.T, js jetstream.JetStream, messages int) {
	t.Helper()
	var last uint64
	require.Eventually(t, func() bool {
		if stream, err := js.Stream(t.Context(), "ORDERS"); err == nil {
			last = stream.CachedInfo().State.LastSeq
		}
		return last >= uint64(messages)
	}, waitTimeout, 10*time.Millisecond, "the stream does not get there")
	require.EqualValues(t, messages, last)
}

// outboxie runs a command to its end, requires the exit code, and returns the output.
func outboxie(t *testing.T, environment []string, code int, args ...string) string {
	t.Helper()
	said, err := infra.Outboxie(t, environment, args...)
	exited := 0
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		exited = failed.ExitCode()
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, code, exited, "%s: %s", args, said)
	return said
}

// requireHalt waits until `outbox status` shows that the relay is halted for this reason, and returns what it prints.
func requireHalt(t *testing.T, environment []string, reason string) (status string) {
	t.Helper()
	require.Eventually(t, func() bool {
		status = outboxie(t, environment, 0, "outbox", "status")
		return strings.Contains(status, "halted: "+reason)
	}, waitTimeout, 50*time.Millisecond, "no halt: %s", reason)
	return status
}
