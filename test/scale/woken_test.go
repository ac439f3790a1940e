//go:build scale

package scale_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestNotificationsWakeTheRelay checks that the notifications of an instance that only serves the API wake a relay that has only the rights it
// needs. A relay that has no right to get notifications finds the same event only by its next poll, seconds later. The test shows this, too.
func TestNotificationsWakeTheRelay(t *testing.T) {
	t.Parallel()
	const patience = 2 * time.Second
	require.Less(t, publishOne(t, newPrivileged(t)), patience)
	asleep := newPrivileged(t, `"outboxie.ORDERS.wake", "outboxie.ORDERS.leader.*"`) // only the relay's rights have both subjects in one line
	require.Greater(t, publishOne(t, asleep), patience)
}

// settled is a time after which the next poll of an idle relay with this poll interval is seconds away: its polls come after 3.75, 11.25 and 26.25
// seconds.
const settled = 5 * time.Second

// publishOne places an order while the relay is idle, and returns how long it takes until the event is published.
func publishOne(t *testing.T, p *privileged) time.Duration {
	t.Helper()
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	api := infra.Serve(t, "api", p.as(writer, "api", "OUTBOXIE_ROLES=api")).API()
	infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0", "OUTBOX_POLL_INTERVAL=1m"), "serve").WaitFor("created the stream")
	time.Sleep(settled)
	began := time.Now()
	requirePlaced(t, api)
	took := time.Since(began)
	t.Logf("published after %s", took.Round(time.Millisecond))
	return took
}
