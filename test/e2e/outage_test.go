package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestOutageLeavesNoDeadLetter checks that no event becomes a dead letter when the database is killed in the middle of a subscriber's
// transaction and comes back later. Each event takes effect once.
func TestOutageLeavesNoDeadLetter(t *testing.T) {
	t.Parallel()
	server := infra.Postgres(t)
	s := newSubscriptionOn(t, server.URL, "SUBSCRIBER_MAX_ATTEMPTS=1", "LOG_LEVEL=info")
	reader := s.startCopy("reader")
	s.order(refusedCustomer)
	s.requireEffects()
	_, who := s.holdUp(refusedCustomer)
	s.record(1000)
	s.order(refusedCustomer)
	s.record(1000)
	who()
	server.Kill()
	reader.WaitFor("cannot handle events at the moment")
	time.Sleep(3 * time.Second)
	server.Start()
	began := time.Now()
	s.eventually(applied, 2002)
	t.Logf("a backlog of 2,000 was applied %s after the database came back", time.Since(began).Round(time.Millisecond))
	s.requireEffects()
	s.requireInOrder()
	require.Zero(t, count(t, s.db, "SELECT count(*) FROM dead_letters"))
}

const limitedReader = `
listen: "127.0.0.1:%d"
jetstream { store_dir: %q }
authorization { users: [
	{ user: app, password: app }
	{ user: reader, password: reader, permissions: { publish: { allow: ">", deny: "$JS.API.DIRECT.GET.>" } } }
] }
`

// TestMissingRightIsNamed checks that a subscriber that may not read the stream names the right, in its log and at /readyz.
func TestMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	port, database := infra.Port(t), infra.Database(t)
	infra.StartNATSProcess(t, fmt.Sprintf(limitedReader, port, t.TempDir()))
	as := func(user string) []string {
		return []string{"DATABASE_URL=" + database, fmt.Sprintf("NATS_URL=nats://%s:%s@127.0.0.1:%d", user, user, port), "ADMIN_ADDR=127.0.0.1:0"}
	}
	placeMany(t, infra.Serve(t, "app", as("app")).API(), 1)
	reader := infra.Launch(t, as("reader"), "subscribe", "--id", "emails")
	const right = "$JS.API.DIRECT.GET.ORDERS"
	require.Contains(t, reader.WaitFor("cannot begin, trying until it works"), "subscriber=emails")
	require.Contains(t, reader.String(), right)
	require.Contains(t, readiness(t, reader), right)
}
