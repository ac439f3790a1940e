package docker_test

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	instances   = []string{"app1", "app2", "app3"}
	subscribers = []string{"subscriber1", "subscriber2", "subscriber3"}
)

// container is what `docker inspect` shows of a container.
type container struct {
	Name       string
	State      struct{ ExitCode, Pid int }
	HostConfig struct {
		Memory         int64
		NanoCpus       int64
		ReadonlyRootfs bool
		RestartPolicy  struct{ Name string }
	}
	NetworkSettings struct {
		Ports map[string][]struct{ HostIP, HostPort string }
	}
}

func inspect(t *testing.T, service string) container {
	t.Helper()
	id := strings.TrimSpace(succeed(t, "docker", "compose", "ps", "--all", "--quiet", service))
	text, err := command(nil, "docker", "inspect", id).Output()
	require.NoError(t, err)
	var containers []container
	require.NoError(t, json.Unmarshal(text, &containers))
	require.Len(t, containers, 1, service)
	return containers[0]
}

// requireReceived waits until every subscriber has logged the order exactly once.
func requireReceived(t *testing.T, order string) {
	t.Helper()
	for _, subscriber := range subscribers {
		require.Eventually(t, func() bool {
			said, err := command(nil, "docker", "compose", "logs", subscriber).Output()
			return err == nil && strings.Count(string(said), "Received order created event subscriber="+subscriber+" order_id="+order) == 1
		}, waitTimeout, 200*time.Millisecond, "%s received %s", subscriber, order)
	}
}

var leaderLine = regexp.MustCompile(`(?m)(\S+) INFO +became leader instance=(app\d) token=(\d+)`)

// leader returns the instance that became leader last.
func leader(t *testing.T) (name string) {
	t.Helper()
	token := ""
	for _, line := range leaderLine.FindAllStringSubmatch(succeed(t, append([]string{"docker", "compose", "logs"}, instances...)...), -1) {
		if len(line[3]) > len(token) || len(line[3]) == len(token) && line[3] > token {
			name, token = line[2], line[3]
		}
	}
	require.NotEmpty(t, name, "somebody leads")
	return name
}

// TestCompose checks that the whole compose file works: containers are healthy, the API asks for tokens, orders are delivered while parts stop and crash, and a
// restart keeps the data.
func TestCompose(t *testing.T) {
	needEngine(t)
	succeed(t, "docker", "compose", "--file", "docker/compose.yaml", "config", "--quiet") // this file is valid alone
	up := []string{"docker", "compose", "up", "--detach", "--wait"}
	succeed(t, up...)
	succeed(t, up...)

	t.Run("containers", requireContainers)
	for _, instance := range instances {
		require.Contains(t, succeed(t, "docker", "compose", "logs", instance), "asks for the token in a file file=/run/outboxie/admin-token")
	}
	answer, said := call(t, http.MethodPost, 8081, "/orders", `{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 1}`, "")
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode, said)
	first := place(t, 8081)
	requireReceived(t, first)
	t.Run("trace", func(t *testing.T) { requireTraced(t, first) })

	t.Run("the leader stops", func(t *testing.T) {
		stopped := leader(t)
		began := time.Now()
		succeed(t, "docker", "compose", "stop", stopped)
		require.Less(t, time.Since(began), 10*time.Second, "it was told to stop, not killed")
		require.Zero(t, inspect(t, stopped).State.ExitCode)
		require.Contains(t, succeed(t, "docker", "compose", "logs", stopped), "lost leadership instance="+stopped)
		require.Eventually(t, func() bool { return leader(t) != stopped }, waitTimeout, 200*time.Millisecond)
		succeed(t, "docker", "compose", "start", stopped)
	})

	t.Run("Postgres crashes", func(t *testing.T) {
		before := inspect(t, "postgres").State.Pid
		succeed(t, "docker", "compose", "exec", "--user", "postgres", "postgres", "sh", "-c", "kill -QUIT 1") // an immediate shutdown
		require.Eventually(t, func() bool {
			pid := inspect(t, "postgres").State.Pid
			return pid != 0 && pid != before
		}, waitTimeout, 200*time.Millisecond, "it is started again")
		succeed(t, up...)
		requireReceived(t, place(t, 8082))
	})

	t.Run("all of it stops, and comes back", func(t *testing.T) {
		succeed(t, "docker", "compose", "stop")
		for _, service := range append(append([]string{"postgres", "nats"}, instances...), subscribers...) {
			require.Zero(t, inspect(t, service).State.ExitCode, service)
		}
		require.Contains(t, succeed(t, "docker", "compose", "logs", "postgres"), "received fast shutdown request")
		succeed(t, "docker", "compose", "down")
		succeed(t, up...)
		answer, said := call(t, http.MethodGet, 8083, "/orders/"+first, "", bearer(t))
		require.Equal(t, http.StatusOK, answer.StatusCode, said)
		requireReceived(t, place(t, 8083))
		require.NotContains(t, succeed(t, append([]string{"docker", "compose", "logs"}, subscribers...)...), first,
			"what was received is not received again")
	})
}

// requireContainers checks the limits and ports of all containers.
func requireContainers(t *testing.T) {
	published := 0
	for _, service := range append(append([]string{"postgres", "nats", "jaeger"}, instances...), subscribers...) {
		c := inspect(t, service)
		require.Equal(t, "unless-stopped", c.HostConfig.RestartPolicy.Name, service)
		require.NotZero(t, c.HostConfig.Memory, service)
		require.NotZero(t, c.HostConfig.NanoCpus, service)
		require.True(t, c.HostConfig.ReadonlyRootfs, service)
		for port, bindings := range c.NetworkSettings.Ports {
			for _, binding := range bindings {
				require.Equal(t, "127.0.0.1", binding.HostIP, "%s %s", service, port)
				published++
			}
		}
	}
	require.Equal(t, 7, published, "Postgres, NATS, Jaeger twice, three instances")
}

// requireTraced waits until Jaeger has one trace of the order's request that goes through an instance and all subscribers.
func requireTraced(t *testing.T, order string) {
	t.Helper()
	said := succeed(t, "docker", "compose", "logs", "subscriber1")
	id := regexp.MustCompile("order_id=" + order + ".* trace_id=([0-9a-f]{32})").FindStringSubmatch(said)
	require.NotNil(t, id)
	requireJaeger(t, "traces/"+id[1], func(said string) bool {
		return strings.Contains(said, `"POST /orders"`) && strings.Count(said, `"process orders.created"`) == len(subscribers)
	})
}

// requireJaeger asks Jaeger until holds is true for its answer.
func requireJaeger(t *testing.T, question string, holds func(said string) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://127.0.0.1:16686/api/" + question) //nolint:noctx // bounded by the test
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		said, err := io.ReadAll(answer.Body)
		return err == nil && holds(string(said))
	}, waitTimeout, 500*time.Millisecond, question)
}
