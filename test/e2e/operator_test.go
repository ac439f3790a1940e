package e2e_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestRepairs brings a halt about on real servers, has the operator's commands tell of it, and repairs it with them: an
// adoption shows what it would do, does nothing without --yes, and then everything goes on.
func TestRepairs(t *testing.T) {
	for name, test := range map[string]struct {
		halt  string
		cause func(ctx context.Context, t *testing.T, js jetstream.JetStream, db *sql.DB)
		plan  string
		holds int // what the stream holds in the end, notice and damage included, after five orders and one
	}{
		"the stream is deleted": {
			halt: "stream_missing",
			cause: func(ctx context.Context, t *testing.T, js jetstream.JetStream, _ *sql.DB) {
				require.NoError(t, js.DeleteStream(ctx, "ORDERS"))
			},
			plan: "publish the 5 events of the log", holds: 1 + 5 + 1,
		},
		"an old message is copied": {
			halt: "tail_copied",
			cause: func(ctx context.Context, t *testing.T, js jetstream.JetStream, _ *sql.DB) {
				stream, err := js.Stream(ctx, "ORDERS")
				require.NoError(t, err)
				old, err := stream.GetMsg(ctx, 2)
				require.NoError(t, err)
				for name := range old.Header { // those told the broker where to store it
					if strings.HasPrefix(name, "Nats-") {
						old.Header.Del(name)
					}
				}
				_, err = js.PublishMsg(ctx, &nats.Msg{Subject: old.Subject, Header: old.Header, Data: old.Data})
				require.NoError(t, err)
			},
			plan: "publish the 0 events of the log", holds: 5 + 1 + 1 + 1,
		},
		"rows are deleted": {
			halt: "history_lost",
			cause: func(_ context.Context, t *testing.T, _ jetstream.JetStream, db *sql.DB) {
				_, err := db.Exec("DELETE FROM outbox WHERE position >= 4")
				require.NoError(t, err)
			},
			plan: "go on after position 3", holds: 5 + 1 + 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			database, broker := infra.Database(t), infra.Broker(t)
			environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s"}
			db, err := sql.Open("pgx", database)
			require.NoError(t, err)
			defer db.Close()
			nc, err := nats.Connect(broker)
			require.NoError(t, err)
			defer nc.Close()
			js, err := jetstream.New(nc)
			require.NoError(t, err)

			instance := serve(t, "app", environment)
			instance.Says("created the stream")
			placeMany(t, instance.API(), 5)
			require.Eventually(t, func() bool { return published(t, broker) == 5 }, patience, 10*time.Millisecond)
			require.Eventually(t, func() bool { return count(t, db, "SELECT position FROM outbox_cursor") == 5 }, patience, 10*time.Millisecond)
			said, err := outboxie(t, environment, "outbox", "adopt")
			require.Error(t, err)
			require.Contains(t, said, "not halted")

			test.cause(t.Context(), t, js, db)
			require.Eventually(t, func() bool {
				said, err := outboxie(t, environment, "outbox", "status")
				return err == nil && strings.Contains(said, test.halt) && strings.Contains(said, "outboxie outbox adopt")
			}, patience, 50*time.Millisecond)
			if test.halt == "history_lost" { // it shows when there is something to read
				require.Contains(t, instance.String(), test.halt)
			}
			said, err = outboxie(t, environment, "outbox", "adopt")
			require.Error(t, err)
			require.Contains(t, said, test.halt)
			require.Contains(t, said, test.plan)
			require.Contains(t, said, "say --yes")
			time.Sleep(100 * time.Millisecond)
			said, err = outboxie(t, environment, "outbox", "status")
			require.NoError(t, err)
			require.Contains(t, said, test.halt, "nothing was done")

			said, err = outboxie(t, environment, "outbox", "adopt", "--yes")
			require.NoError(t, err, said)
			placeMany(t, instance.API(), 1)
			require.Eventually(t, func() bool { return published(t, broker) == uint64(test.holds) }, patience, 10*time.Millisecond,
				"%d messages instead of %d", published(t, broker), test.holds)
			said, err = outboxie(t, environment, "outbox", "status")
			require.NoError(t, err)
			require.Contains(t, said, "relaying")
		})
	}
}

// TestParksAndRedrives parks an event that is too large, with what comes behind it, gives it up, and redrives the rest.
func TestParksAndRedrives(t *testing.T) {
	database, broker := infra.Database(t), infra.Broker(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s"}
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	instance := serve(t, "app", environment)
	instance.Says("created the stream")
	const aggregate = "11111111-1111-1111-1111-111111111111"
	_, err = db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', $1, g, 'test.v1', 'orders.created',
			CASE WHEN g = 2 THEN to_json(repeat('x', 1200000)) ELSE to_json(g) END
		FROM generate_series(1, 4) AS g`, aggregate)
	require.NoError(t, err)
	placeMany(t, instance.API(), 2)
	require.Eventually(t, func() bool { return published(t, broker) == 4 }, patience, 10*time.Millisecond, "1, the notice, and two orders")

	said, err := outboxie(t, environment, "outbox", "parked")
	require.NoError(t, err)
	require.Contains(t, said, "3 events of 1 aggregate")
	_, err = outboxie(t, environment, "outbox", "redrive", "--all")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(instance.String(), "parked again") }, patience, 10*time.Millisecond)
	_, err = outboxie(t, environment, "outbox", "discard", "--position", "2", "--yes")
	require.NoError(t, err)
	_, err = outboxie(t, environment, "outbox", "redrive", "--aggregate", "order/"+aggregate)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return published(t, broker) == 6 }, patience, 10*time.Millisecond)
	require.Equal(t, []string{"1", "", "5", "6", "3", "4"}, streamPositions(t, broker))
}

// outboxie runs a command to its end, and returns all that it said.
func outboxie(t *testing.T, environment []string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), infra.Binary(t), args...)
	command.Env = append(os.Environ(), environment...)
	said, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return string(said), err
}

// streamPositions is the position of the event that each message carries, empty for a notice.
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
