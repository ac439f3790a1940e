//go:build scale

package scale_test

import (
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestPgBouncer checks that migrations, instances and subscribers under load, and a take-over work through a PgBouncer in transaction mode.
// TestLeastPrivilege covers the rest.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	server, broker := infra.Postgres(t), infra.NATS(t).URL
	_, err := open(t, server.URL).Exec("CREATE DATABASE shop")
	require.NoError(t, err)
	bouncer := infra.PgBouncer(t, onDatabase(t, server.URL, "shop"), nil)
	environment := []string{"DATABASE_URL=" + bouncer, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=2s", "DATABASE_MAX_CONNS=50"}
	outboxie(t, environment, 0, "migrate", "up")
	for _, set := range []string{"engine", "service"} {
		outboxie(t, environment, 0, "migrate", "down", "--set", set, "--yes")
	}

	h := startHarness(t, onDatabase(t, server.URL, "shop"), environment, jetStream(t, broker))
	h.more(t, 50)
	var leader string
	require.NoError(t, h.db.QueryRow("SELECT holder FROM leases").Scan(&leader))
	first := h.instances[strings.TrimPrefix(leader, "app")[0]-'1']
	first.Signal(syscall.SIGSTOP)
	h.more(t, 50)
	first.Signal(syscall.SIGCONT)
	h.finish(t)
	for _, process := range slices.Concat(h.instances, h.copies) {
		require.NotContains(t, process.String(), "prepared statement", "behind a pooler nothing may be prepared")
	}
}

func onDatabase(t *testing.T, server, name string) string {
	t.Helper()
	address, err := url.Parse(server)
	require.NoError(t, err)
	address.Path = "/" + name
	return address.String()
}
