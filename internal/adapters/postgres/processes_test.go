package postgres_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

// TestProcesses checks that every process of the database is found once by its application name, and no process of another database. A role
// without any right finds the processes of other roles too.
func TestProcesses(t *testing.T) {
	h := newHarness(t)
	names := []string{"app1", "app2", "an instance with a \"quoted\" name"}
	for _, name := range names {
		for range 2 { // connections of one process
			exec(t, open(t, postgres.Options{URL: h.address, ApplicationName: name, MaxOpenConns: 1}), "SELECT 1")
		}
	}
	server, _ := split(t, h.address)
	exec(t, open(t, postgres.Options{URL: server, ApplicationName: "elsewhere"}), "SELECT 1")
	found, err := postgres.NewProcesses(h.db).Processes(t.Context())
	require.NoError(t, err)
	require.IsIncreasing(t, found)
	require.Subset(t, found, append(names, underTest))
	require.NotContains(t, found, "elsewhere")

	const role = "processes_stranger"
	exec(t, h.admin, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'")
	t.Cleanup(func() {
		_, err := h.admin.Exec("DROP ROLE " + role)
		require.NoError(t, err)
	})
	address, err := url.Parse(h.address)
	require.NoError(t, err)
	address.User = url.UserPassword(role, "secret")
	found, err = postgres.NewProcesses(open(t, postgres.Options{URL: address.String(), ApplicationName: "stranger"})).Processes(t.Context())
	require.NoError(t, err)
	require.Subset(t, found, append(names, "stranger"))
}
