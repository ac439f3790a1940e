package e2e_test

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestIdleSystemIsQuiet checks how many transactions the database sees in a second while one instance and one subscriber have nothing to do:
// less than five by themselves. The limit of seven has room for autovacuum, whose transactions count too, and for pings on a slow machine.
func TestIdleSystemIsQuiet(t *testing.T) {
	t.Parallel()
	database, broker := infra.Database(t), infra.Broker(t)
	admin, name := administered(t, database) // another database, so that asking does not count
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker}
	app := infra.Serve(t, "app", environment)
	infra.Launch(t, environment, "subscribe", "--id", "emails").WaitFor("subscribed")
	_, err := infra.Place(app.API())
	require.NoError(t, err)
	count := func() int64 {
		var transactions int64
		require.NoError(t, admin.QueryRow("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1", name).Scan(&transactions))
		return transactions
	}
	time.Sleep(12 * time.Second) // the order is delivered; an idle connection reports its last transactions after ten seconds
	began, before := time.Now(), count()
	time.Sleep(15 * time.Second)
	rate := float64(count()-before) / time.Since(began).Seconds()
	t.Logf("%.1f transactions/s", rate)
	require.Positive(t, rate, "the statistics do not arrive")
	require.LessOrEqual(t, rate, 7.0)
}

// TestDocumentedWakeUp checks the message by which a program in any language wakes the relay: the test publishes exactly the message that
// docs/operations.md shows. The relay polls so seldom that only the message explains why an event of plain SQL arrives.
func TestDocumentedWakeUp(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	documented := regexp.MustCompile(`(?m)^nats pub (\S+) '(.*)'$`).FindStringSubmatch(string(page))
	require.NotNil(t, documented, "docs/operations.md shows the message")
	insert := regexp.MustCompile("(?s)```sql\n(INSERT INTO outbox .*?);\n```").FindStringSubmatch(string(page))
	require.NotNil(t, insert, "docs/operations.md shows the statement")

	database, broker := infra.Database(t), infra.Broker(t)
	app := infra.Serve(t, "app", []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_POLL_INTERVAL=1m"})
	app.WaitFor("created the stream")
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	delivered, err := nc.SubscribeSync("orders.>")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	db := openDB(t, database)
	_, err = infra.Place(app.API())
	require.NoError(t, err)
	_, err = delivered.NextMsg(waitTimeout) // from now on the relay polls in seconds at the earliest
	require.NoError(t, err)

	_, err = db.Exec(insert[1])
	require.NoError(t, err)
	_, err = delivered.NextMsg(500 * time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout, "nobody has woken the relay")
	require.NoError(t, nc.Publish(documented[1], []byte(documented[2])))
	message, err := delivered.NextMsg(2 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "2", message.Header.Get("Outbox-Position"))
}
