package e2e_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// oddSettings are some of the settings with which the program once failed or hung. The test of the Postgres adapter tries all of them.
var oddSettings = []string{
	"datestyle = 'German, DMY'", "bytea_output = 'escape'", "timezone = 'Asia/Kathmandu'", "intervalstyle = 'iso_8601'",
	"client_encoding = 'LATIN1'", "standard_conforming_strings = off", "extra_float_digits = -15", "quote_all_identifiers = on",
	"statement_timeout = '1ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'", "enable_indexscan = off",
	"default_transaction_isolation = 'serializable'", "transform_null_equals = on", "array_nulls = off", "row_security = off",
}

// administered returns a pool on another database of the server, and the name of the database.
func administered(t *testing.T, database string) (admin *sql.DB, name string) {
	t.Helper()
	parsed, err := url.Parse(database)
	require.NoError(t, err)
	name = strings.TrimPrefix(parsed.Path, "/")
	parsed.Path = "/postgres"
	return openDB(t, parsed.String()), name
}

func alter(t *testing.T, db *sql.DB, format string, arguments ...any) {
	t.Helper()
	_, err := db.Exec(fmt.Sprintf(format, arguments...))
	require.NoError(t, err)
}

// TestOddSettings checks that migration, relay, subscriber, dead letters and status work on a database with unusual settings.
func TestOddSettings(t *testing.T) {
	t.Parallel()
	database, broker := infra.Database(t), infra.Broker(t)
	admin, name := administered(t, database)
	alter(t, admin, "DROP DATABASE %s WITH (FORCE)", name)
	alter(t, admin, "CREATE DATABASE %s", name)
	for _, setting := range oddSettings {
		alter(t, admin, "ALTER DATABASE %s SET %s", name, setting)
	}
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s", "SUBSCRIBER_MAX_ATTEMPTS=1"}
	app := infra.Serve(t, "app", environment)
	infra.Launch(t, environment, "subscribe", "--id", "emails")
	order, err := infra.Place(app.API())
	require.NoError(t, err)
	response, err := http.Get("http://" + app.API() + "/orders/" + order.ID)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)

	db := openDB(t, database+"&datestyle=ISO&client_encoding=UTF8&statement_timeout=0&standard_conforming_strings=on&lock_timeout=0")
	eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == 1 }, "nothing is applied")
	alter(t, db, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', 'x', 1, 'outboxie.order.created.v1', 'orders.created', '{"amount": "nonsense"}')`)
	eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM dead_letters WHERE state = 'dead'") == 1 }, "nothing is set aside")
	for command, want := range map[string]string{"subscriber dead --id emails": "order/x", "outbox status": "relaying", "migrate status": "applied"} {
		said, err := infra.Outboxie(t, environment, strings.Fields(command)...)
		require.NoError(t, err, command)
		require.Contains(t, said, want, command)
	}
}

// TestReadOnlyForAWhile checks that reads continue while the database is read-only, and writes work again soon afterwards.
func TestReadOnlyForAWhile(t *testing.T) {
	t.Parallel()
	database, broker := infra.Database(t), infra.Broker(t)
	admin, name := administered(t, database)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s"}
	app := infra.Serve(t, "app", environment)
	infra.Launch(t, environment, "subscribe", "--id", "emails")
	placeMany(t, app.API(), 1)
	events := func(want uint64) {
		eventually(t, func() bool { return published(t, broker) == want }, "%d events are not published", want)
	}
	events(1)

	alter(t, admin, "ALTER DATABASE %s SET default_transaction_read_only = on", name)
	alter(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'", name)
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(50 * time.Millisecond) {
		_, err := infra.Place(app.API())
		require.Error(t, err)
	}
	response, err := http.Get("http://" + app.API() + "/orders")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode, "what reads goes on")
	said, err := infra.Outboxie(t, environment, "outbox", "status")
	require.NoError(t, err)
	require.Contains(t, said, "nobody leads", "status says so")
	require.Contains(t, app.String(), "read-only")

	alter(t, admin, "ALTER DATABASE %s RESET default_transaction_read_only", name)
	reset := time.Now()
	eventually(t, func() bool { _, err := infra.Place(app.API()); return err == nil }, "no order is accepted")
	events(2)
	db := openDB(t, database)
	eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == 2 }, "nothing is applied")
	t.Logf("everything was at work again %s after the database was writable", time.Since(reset).Round(time.Millisecond))
	require.Less(t, time.Since(reset), 15*time.Second)
}
