package e2e_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestParksAndRedrives checks that an event that is too large is parked with the later events of its order. After an operator discards this
// event and redrives the later events, the relay publishes the later events.
func TestParksAndRedrives(t *testing.T) {
	database, broker := infra.Database(t), infra.Broker(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s"}
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	instance := infra.Serve(t, "app", environment)
	instance.WaitFor("created the stream")
	const aggregate = "11111111-1111-1111-1111-111111111111"
	_, err = db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', $1, g, 'test.v1', 'orders.created',
			CASE WHEN g = 2 THEN to_json(repeat('x', 1200000)) ELSE to_json(g) END
		FROM generate_series(1, 4) AS g`, aggregate)
	require.NoError(t, err)
	placeMany(t, instance.API(), 2)
	require.Eventually(t, func() bool { return published(t, broker) == 4 }, waitTimeout, 10*time.Millisecond, "1, the notice, and two orders")

	said, err := infra.Outboxie(t, environment, "outbox", "parked")
	require.NoError(t, err)
	require.Contains(t, said, "3 events of 1 aggregate")
	_, err = infra.Outboxie(t, environment, "outbox", "redrive", "--all")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(instance.String(), "parked again") }, waitTimeout, 10*time.Millisecond)
	_, err = infra.Outboxie(t, environment, "outbox", "discard", "--position", "2", "--yes")
	require.NoError(t, err)
	_, err = infra.Outboxie(t, environment, "outbox", "redrive", "--aggregate", "order/"+aggregate)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return published(t, broker) == 7 }, waitTimeout, 10*time.Millisecond)
	require.Equal(t, []string{"1", "", "5", "6", "", "3", "4"}, streamPositions(t, broker), "the refusal has a notice of its own")
}

// streamPositions returns the position of the event in each message; empty for a control message.
func streamPositions(t *testing.T, broker string) []string {
	t.Helper()
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	var positions []string
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		positions = append(positions, message.Header.Get("Outbox-Position"))
	}
	return positions
}
