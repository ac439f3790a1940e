//go:build scale

package scale_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestNotificationsWakeTheRelay checks that the notifications of an instance that only serves the API wake a relay that has only the rights it
// needs. Without notifications, the relay reads the log only some seconds after each event. The test shows this, too, with a relay that has no
// right to get notifications.
func TestNotificationsWakeTheRelay(t *testing.T) {
	t.Parallel()
	const patience = 6 * time.Second
	require.Less(t, publishSingly(t, newPrivileged(t)), patience)
	asleep := newPrivileged(t, `"outboxie.ORDERS.wake", "outboxie.ORDERS.leader.*"`) // only the relay's rights have both subjects in one line
	require.Greater(t, publishSingly(t, asleep), patience)
}

// publishSingly places three orders, each when the one before is published, and returns how long that takes.
func publishSingly(t *testing.T, p *privileged) time.Duration {
	t.Helper()
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	api := infra.Serve(t, "api", p.as(writer, "api", "OUTBOXIE_ROLES=api")).API()
	infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0", "OUTBOX_POLL_INTERVAL=1m"), "serve").WaitFor("became leader")
	requirePlaced(t, api)
	began := time.Now()
	for range 3 {
		requirePlaced(t, api)
	}
	took := time.Since(began)
	t.Logf("three orders in %s", took.Round(time.Millisecond))
	return took
}
