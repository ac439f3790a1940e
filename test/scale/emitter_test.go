//go:build scale

package scale_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestEmitterPrivilege checks that a subscriber whose handler emits events works with the rights of an emitter and no others, and wakes the
// relay, and that a plain subscriber has no right to emit.
func TestEmitterPrivilege(t *testing.T) {
	t.Parallel()
	p := newPrivileged(t)
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	api := infra.Serve(t, "api", p.as(writer, "api", "OUTBOXIE_ROLES=api")).API()
	infra.Launch(t, p.as(relayer, "relay", "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0"), "serve").WaitFor("became leader")
	warehouse := subscribe(t, "warehouse", p.as(emitter, "emitter", "SUBSCRIBER_HANDLER=fulfillment"))
	plain := subscribe(t, "plain", p.as(subscriber, "subscriber", "SUBSCRIBER_HANDLER=fulfillment"))
	notifications, err := connected(t, p.nats("relay")).SubscribeSync("outboxie.ORDERS.wake")
	require.NoError(t, err)
	order, err := infra.Place(api)
	require.NoError(t, err)
	_, err = infra.Transition(api, order.ID, "pay")
	require.NoError(t, err)
	eventually := func(query string, want int) {
		t.Helper()
		require.Eventually(t, func() bool { return count(t, p.admin, query) == want }, waitTimeout, 10*time.Millisecond, "%s", query)
	}
	eventually("SELECT count(*) FROM outbox WHERE event_type = 'outboxie.fulfillment.requested.v1'", 1)
	received := make(map[bool]int) // true: the notification names an instance; false: an emitter sent it
	for received[false] == 0 {
		notification, err := notifications.NextMsg(waitTimeout)
		require.NoError(t, err, "the emitter does not notify the relay")
		received[len(notification.Data) > 0]++
	}
	plain.WaitFor("run this subscriber as outboxie_emitter")
	eventually("SELECT count(*) FROM dead_letters WHERE subscriber = 'plain'", 0)
	require.NotContains(t, warehouse.String(), "ermission")
	stream, err := jetStream(t, p.nats("admin")).Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := stream.GetLastMsgForSubject(t.Context(), "orders.fulfillment.requested")
		return err == nil
	}, waitTimeout, 10*time.Millisecond)
}
