//go:build scale

package scale_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestOddSettingsBehindAPooler checks that the main path works through a PgBouncer on a database with unusual settings. PgBouncer keeps only
// few settings apart for each client.
func TestOddSettingsBehindAPooler(t *testing.T) {
	t.Parallel()
	server, broker := infra.Postgres(t), infra.NATS(t).URL
	admin := open(t, server.URL)
	_, err := admin.Exec("CREATE DATABASE shop")
	require.NoError(t, err)
	for _, setting := range []string{
		"datestyle = 'German, DMY'", "bytea_output = 'escape'", "timezone = 'Asia/Kathmandu'", "intervalstyle = 'iso_8601'",
		"client_encoding = 'LATIN1'", "standard_conforming_strings = off", "extra_float_digits = -15", "quote_all_identifiers = on",
		"default_transaction_isolation = 'serializable'", "transform_null_equals = on", "array_nulls = off", "row_security = off",
	} {
		_, err := admin.Exec("ALTER DATABASE shop SET " + setting)
		require.NoError(t, err)
	}
	shop := onDatabase(t, server.URL, "shop")
	environment := []string{
		"DATABASE_URL=" + infra.PgBouncer(t, shop, nil), "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=2s", "SUBSCRIBER_MAX_ATTEMPTS=1",
	}
	app := infra.Serve(t, "app", environment)
	subscribe(t, "emails", environment)
	placeMany(t, app.API(), 3)
	db := open(t, shop+"&datestyle=ISO&client_encoding=UTF8&standard_conforming_strings=on")
	require.Eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == 3 }, waitTimeout, 10*time.Millisecond)
	_, err = db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', 'x', 1, 'outboxie.order.created.v1', 'orders.created', '{"amount": "nonsense"}')`)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM dead_letters WHERE state = 'dead'") == 1 }, waitTimeout, 10*time.Millisecond)
	require.Contains(t, outboxie(t, environment, 0, "subscriber", "dead", "--id", "emails"), "order/x")
	require.Contains(t, outboxie(t, environment, 0, "outbox", "status"), "relaying")
	require.Contains(t, outboxie(t, append(environment, "DATABASE_URL="+infra.PgBouncer(t, shop, nil)+"&search_path=public"), 2, "outbox", "status"),
		"the pooler does not take a setting of DATABASE_URL")
}

// TestAPoolerThatRefusesIsNotWaitedFor checks that a program ends with the reason when PgBouncer refuses a name. PgBouncer reports every
// refusal as a violation of the protocol.
func TestAPoolerThatRefusesIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	server := infra.Postgres(t)
	for _, c := range []struct {
		user *url.Userinfo
		cure string
	}{
		{nil, "has no database nothing"},
		{url.UserPassword("nobody", "nobody"), "does not let the role in"},
	} {
		bouncer, err := url.Parse(infra.PgBouncer(t, server.URL, map[string]string{"nobody": "nobody"}))
		require.NoError(t, err)
		if bouncer.Path = "/nothing"; c.user != nil {
			bouncer.User = c.user
		}
		said := outboxie(t, []string{"DATABASE_URL=" + bouncer.String()}, 2, "migrate", "up")
		require.Contains(t, said, c.cure)
		require.Contains(t, said, "08P01", "PgBouncer reports a protocol violation")
	}
}
