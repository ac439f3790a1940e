//go:build scale

package scale_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// writableWithin is how soon each part has to be at work again after the name has moved: ten times what was measured.
const writableWithin = 15 * time.Second

// host returns the host and port of an address.
func host(t *testing.T, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	return parsed.Host
}

// TestSwitchoverBehindALateName checks that every kind of process works again soon after the name in DATABASE_URL leads to the new primary.
// Before that, the name leads to a standby for some seconds, and DATABASE_URL has no target_session_attrs. Processes connect directly, and
// through a PgBouncer, which keeps its own connections to the former primary.
func TestSwitchoverBehindALateName(t *testing.T) {
	t.Parallel()
	p, broker := startReplicatedPostgres(t), infra.NATS(t).URL
	p.synchronous()
	name := infra.NewProxy(t, host(t, p.primary.URL))
	direct := name.URL(t, p.primary.URL)
	environment := []string{"NATS_URL=" + broker, "OUTBOX_LEASE_TTL=2s"}
	js := jetStream(t, broker)
	pooled := append([]string{"DATABASE_URL=" + infra.PgBouncer(t, direct, nil)}, environment...)
	environment = append([]string{"DATABASE_URL=" + direct}, environment...)
	app, behind := infra.Serve(t, "app", environment), infra.Serve(t, "behind", pooled)
	emails, vouchers := subscribe(t, "emails", environment), subscribe(t, "vouchers", pooled)
	placeMany(t, app.API(), 3)
	placeMany(t, behind.API(), 3)
	stored(t, js, 6)
	former := open(t, p.standby.URL)
	applied := func(subscriber string, events int) {
		require.Eventually(t, func() bool {
			var n int
			err := former.QueryRow("SELECT count(*) FROM inbox WHERE subscriber = $1 AND applied_at IS NOT NULL", subscriber).Scan(&n)
			return err == nil && n >= events
		}, waitTimeout, 10*time.Millisecond, "%s\n%s\n%s", subscriber, emails, vouchers)
	}
	applied("emails", 6)
	applied("vouchers", 6)

	p.failOver(p.primary.Stop)
	p.primary.StartAsStandby()
	for began := time.Now(); time.Since(began) < 4*time.Second; time.Sleep(50 * time.Millisecond) {
		for _, api := range []string{app.API(), behind.API()} {
			_, err := infra.Place(api)
			require.Error(t, err, "there is no primary behind the name")
		}
	}
	name.Move(host(t, p.standby.URL))
	moved := time.Now()
	for what, api := range map[string]string{"the API": app.API(), "the API behind PgBouncer": behind.API()} {
		placeMany(t, api, 1)
		t.Logf("%s accepted an order %s after the name had moved", what, time.Since(moved).Round(time.Millisecond))
	}
	stored(t, js, 8)
	t.Logf("the events were published %s after the name had moved", time.Since(moved).Round(time.Millisecond))
	applied("emails", 8)
	applied("vouchers", 8)
	t.Logf("they were applied %s after the name had moved", time.Since(moved).Round(time.Millisecond))
	require.Less(t, time.Since(moved), writableWithin)
	require.Contains(t, app.String(), "the server is a standby")

	both := append([]string{"DATABASE_URL=" + severalHosts(t, p.primary.URL, p.standby.URL)}, environment[1:]...)
	require.Contains(t, outboxie(t, both, 0, "outbox", "status"), "relaying")
}

// severalHosts returns one URL for several servers, without target_session_attrs.
func severalHosts(t *testing.T, first, second string) string {
	t.Helper()
	parsed, err := url.Parse(first)
	require.NoError(t, err)
	parsed.Host += "," + host(t, second)
	return parsed.String()
}

// TestReadOnlyBehindAPooler checks that programs write again soon after a database was read-only, although the pooler's connections from
// that time would stay read-only for an hour.
func TestReadOnlyBehindAPooler(t *testing.T) {
	t.Parallel()
	server, broker := infra.Postgres(t), infra.NATS(t).URL
	environment := []string{"DATABASE_URL=" + infra.PgBouncer(t, server.URL, nil), "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=2s"}
	app := infra.Serve(t, "app", environment)
	subscribe(t, "emails", environment)
	placeMany(t, app.API(), 1)
	admin, js := open(t, server.URL), jetStream(t, broker)
	stored(t, js, 1)
	_, err := admin.Exec("ALTER DATABASE outboxie SET default_transaction_read_only = on")
	require.NoError(t, err)
	_, err = admin.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
	require.NoError(t, err)
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(50 * time.Millisecond) {
		_, err := infra.Place(app.API())
		require.Error(t, err)
		response, err := http.Get("http://" + app.API() + "/orders")
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
	}
	_, err = admin.Exec("SET default_transaction_read_only = off")
	require.NoError(t, err)
	_, err = admin.Exec("BEGIN READ WRITE; ALTER DATABASE outboxie RESET default_transaction_read_only; COMMIT")
	require.NoError(t, err)
	reset := time.Now()
	placeMany(t, app.API(), 1)
	t.Logf("the API accepted an order %s after the database was writable", time.Since(reset).Round(time.Millisecond))
	stored(t, js, 2)
	require.Eventually(t, func() bool { return count(t, admin, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == 2 }, waitTimeout, 10*time.Millisecond)
	t.Logf("its event was applied %s after the database was writable", time.Since(reset).Round(time.Millisecond))
	require.Less(t, time.Since(reset), writableWithin)
}
