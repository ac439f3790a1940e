// Package sidecar_test runs `outboxie relay` as other services use it: with databases that only it migrates, and writers that only insert.
package sidecar_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

const waitTimeout = 30 * time.Second

var made atomic.Int64

// emptyDatabase returns the address of a database without tables. It is dropped when the test ends.
func emptyDatabase(t *testing.T) string {
	t.Helper()
	beside := infra.Database(t)
	name := fmt.Sprintf("sidecar_%d_%d", os.Getpid(), made.Add(1))
	execute(t, beside, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		db, err := sql.Open("pgx", beside)
		require.NoError(t, err)
		defer db.Close()
		_, err = db.Exec("DROP DATABASE " + name + " WITH (FORCE)") //nolint:noctx // the test's context has ended
		require.NoError(t, err)
	})
	address, err := url.Parse(beside)
	require.NoError(t, err)
	address.Path = "/" + name
	return address.String()
}

func execute(t *testing.T, database, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
}

// settings writes the file of a relay, whose stream has the name in capitals.
func settings(t *testing.T, name, database, broker string, more ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".env")
	lines := append([]string{
		"DATABASE_URL=" + database, "NATS_URL=" + broker, "STREAM_NAME=" + strings.ToUpper(name), "STREAM_SUBJECTS=" + name + ".>",
		"EVENT_SOURCE=/test/" + name,
	}, more...)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	return path
}

// relay starts `outboxie relay` with the files.
func relay(t *testing.T, files ...string) (process *infra.Process, admin string) {
	t.Helper()
	process = infra.Launch(t, []string{"ADMIN_ADDR=127.0.0.1:0"}, append([]string{"relay"}, files...)...)
	return process, process.Admin()
}

func ask(t *testing.T, admin, path string, into any) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+path, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+infra.AdminToken)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.NoError(t, json.NewDecoder(answer.Body).Decode(into))
	return answer.StatusCode
}

// relays returns what GET /relays shows, by name. The answer must come at once.
func relays(t *testing.T, admin string) map[string]httpapi.RelayState {
	t.Helper()
	began := time.Now()
	var shown httpapi.Relays
	require.Equal(t, http.StatusOK, ask(t, admin, "/relays", &shown))
	require.Less(t, time.Since(began), 2*time.Second)
	byName := make(map[string]httpapi.RelayState)
	for _, r := range shown.Relays {
		byName[r.Name] = r
	}
	return byName
}

// waitForState waits until a relay has the state, and returns what is shown of it.
func waitForState(t *testing.T, admin, name string, state httpapi.RelayStateState) (found httpapi.RelayState) {
	t.Helper()
	require.Eventually(t, func() bool {
		found = relays(t, admin)[name]
		return found.State == state
	}, waitTimeout, 20*time.Millisecond, "%s never was %s", name, state)
	return found
}

// checks returns the failed checks of readiness with their reasons, and the status of all.
func checks(t *testing.T, admin string) (failed map[string]string, status httpapi.ReadinessStatus, code int) {
	t.Helper()
	var shown httpapi.Readiness
	code = ask(t, admin, "/readyz", &shown)
	failed = make(map[string]string)
	for _, check := range shown.Checks {
		if check.Reason != nil {
			failed[check.Name] = *check.Reason
		}
	}
	return failed, shown.Status, code
}

// writer appends events to one database, and measures how long each takes to the stream.
type writer struct {
	t       *testing.T
	name    string
	db      *sql.DB
	nc      *nats.Conn
	arrived chan string
}

func newWriter(t *testing.T, name, database, broker string) *writer {
	t.Helper()
	w := &writer{t: t, name: name, arrived: make(chan string, 1000)}
	var err error
	w.db, err = sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.db.Close() })
	w.nc, err = nats.Connect(broker)
	require.NoError(t, err)
	t.Cleanup(w.nc.Close)
	_, err = w.nc.Subscribe(name+".>", func(m *nats.Msg) { w.arrived <- m.Header.Get("Outbox-Position") })
	require.NoError(t, err)
	require.NoError(t, w.nc.Flush())
	return w
}

// append appends one event, and sends the message that wakes the relay.
func (w *writer) append() (position string) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRowContext(w.t.Context(), `
INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
VALUES (gen_random_uuid(), 'thing', gen_random_uuid()::text, 1, 'test.thing.made.v1', $1, '{}') RETURNING position`, w.name+".made").Scan(&position))
	require.NoError(w.t, w.nc.Publish("outboxie."+strings.ToUpper(w.name)+".wake", nil))
	require.NoError(w.t, w.nc.Flush())
	return position
}

// deliver appends one event, and returns how long it took from its commit to the subscriber.
func (w *writer) deliver() time.Duration {
	w.t.Helper()
	position := w.append()
	began := time.Now()
	for {
		select {
		case got := <-w.arrived:
			if got == position {
				return time.Since(began)
			}
		case <-time.After(waitTimeout):
			require.FailNow(w.t, "an event was not delivered", "position %s of %s", position, w.name)
		}
	}
}
