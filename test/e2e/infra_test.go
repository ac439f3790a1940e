package e2e_test

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestInfra checks that the servers of `playground infra` serve an instance and a subscriber, come back on the same ports with their data,
// name a taken port, and leave no Postgres when the program is killed.
func TestInfra(t *testing.T) {
	data := dataDir(t)
	ports := []string{"--postgres-port", strconv.Itoa(infra.Port(t)), "--nats-port", strconv.Itoa(infra.Port(t))}
	launch := func(more ...string) *infra.Process {
		// `playground infra` ignores the DATABASE_URL of its environment.
		return infra.LaunchPlayground(t, []string{"DATABASE_URL=postgres://nowhere/x"}, slices.Concat([]string{"infra", "--data-dir", data}, ports, more)...)
	}
	addresses := func(p *infra.Process) []string {
		return []string{
			"DATABASE_URL=" + strings.Trim(p.WaitFor("DATABASE_URL='"), "'"),
			"NATS_URL=" + strings.Trim(p.WaitFor("NATS_URL='"), "'"),
		}
	}
	first := launch()
	first.WaitFor("Ctrl-C stops them")
	environment := addresses(first)
	require.Contains(t, environment[0], ":"+ports[1]+"/")
	require.Regexp(t, `^NATS_URL=nats://outboxie:[0-9a-f]{32}@127\.0\.0\.1:`+ports[3]+"$", environment[1])

	instance := infra.Serve(t, "app", environment)
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	subscriber := infra.Launch(t, environment, "subscribe", "--id", "emails")
	subscriber.WaitFor("Received order created event subscriber=emails order_id=" + order.ID)
	require.Zero(t, subscriber.Stop(syscall.SIGTERM), subscriber)
	require.Zero(t, instance.Stop(syscall.SIGTERM), instance)
	require.Zero(t, first.Stop(syscall.SIGINT), first)

	for i, name := range []string{"Postgres cannot listen on port ", "NATS cannot listen on port "} {
		listener, err := net.Listen("tcp", "127.0.0.1:"+ports[2*i+1])
		require.NoError(t, err)
		blocked := launch()
		blocked.WaitFor(name + ports[2*i+1])
		require.Equal(t, 1, blocked.Wait(), blocked)
		require.NoError(t, listener.Close())
	}

	second := launch()
	second.WaitFor("Ctrl-C stops them")
	again := infra.Serve(t, "again", environment)
	_, err = infra.Read(again.API(), order.ID)
	require.NoError(t, err)
	require.Zero(t, again.Stop(syscall.SIGTERM), again)
	pid := postmaster(t, data)
	second.Kill()
	requireGone(t, pid)

	third := launch("--fresh")
	third.WaitFor("Ctrl-C stops them")
	environment = addresses(third)
	last := infra.Serve(t, "fresh", environment)
	_, err = infra.Read(last.API(), order.ID)
	require.ErrorContains(t, err, "404")
	order, err = infra.Place(last.API())
	require.NoError(t, err)
	subscriber = infra.Launch(t, environment, "subscribe", "--id", "emails")
	subscriber.WaitFor("Received order created event subscriber=emails order_id=" + order.ID)
}
