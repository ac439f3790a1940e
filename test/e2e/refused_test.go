package e2e_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// commands are one of each kind that uses the database.
var commands = []string{
	"serve", "subscribe --id emails", "migrate up", "migrate status", "outbox status", "outbox list", "outbox parked",
	"subscriber dead --id emails",
}

// saidWithin is shorter than the time that a process waits for a missing database.
const saidWithin = 20 * time.Second

// TestWhatIsWrongIsSaidAtOnce checks that every kind of process ends at once with instructions when the database refuses it or cannot be
// used.
func TestWhatIsWrongIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	database, broker := infra.Database(t), infra.Broker(t)
	admin, name := administered(t, database)
	alter(t, admin, "CREATE DATABASE %s_latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'", name)
	t.Cleanup(func() { _, _ = admin.Exec("DROP DATABASE " + name + "_latin") })
	at := func(change func(u *url.URL)) string {
		parsed, err := url.Parse(database)
		require.NoError(t, err)
		change(parsed)
		return parsed.String()
	}
	infra.Binary(t) // building it takes a while
	for _, c := range []struct {
		what, address, cure string
		commands            []string
	}{
		{"a wrong password", at(func(u *url.URL) { u.User = url.UserPassword("outboxie", "wrong") }), "the password is wrong", commands},
		{"an unknown database", at(func(u *url.URL) { u.Path = "/nothing" }), "there is no database nothing", commands[:2]},
		{"TLS", strings.Replace(database, "sslmode=disable", "sslmode=require", 1), "the server does not offer TLS", commands[:2]},
		{"another encoding", at(func(u *url.URL) { u.Path += "_latin" }), "--encoding=UTF8 --template=template0", commands},
	} {
		for _, command := range c.commands {
			began := time.Now()
			process := infra.Launch(t, []string{
				"DATABASE_URL=" + c.address, "NATS_URL=" + broker, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0",
			}, strings.Fields(command)...)
			require.Equal(t, 2, process.Wait(), "%s: %s: %s", c.what, command, process)
			require.Contains(t, process.String(), c.cure, "%s: %s", c.what, command)
			require.Less(t, time.Since(began), saidWithin, "%s: %s", c.what, command)
		}
	}
}

// TestAServerThatIsNotThereIsWaitedFor checks that a program waits for a database that starts later.
func TestAServerThatIsNotThereIsWaitedFor(t *testing.T) {
	t.Parallel()
	database := infra.Database(t)
	parsed, err := url.Parse(database)
	require.NoError(t, err)
	server, port := parsed.Host, infra.Port(t)
	parsed.Host = net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	app := infra.Launch(t, []string{
		"DATABASE_URL=" + parsed.String(), "NATS_URL=" + infra.Broker(t), "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0",
	}, "serve")
	app.WaitFor("the database cannot be used yet, waiting")
	infra.ProxyOn(t, port, server)
	app.API()
}

// TestATakenPortChangesNothing checks that a process whose port is in use does not migrate.
func TestATakenPortChangesNothing(t *testing.T) {
	t.Parallel()
	database := infra.Database(t)
	admin, name := administered(t, database)
	alter(t, admin, "DROP DATABASE %s WITH (FORCE)", name)
	alter(t, admin, "CREATE DATABASE %s", name)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for _, c := range []struct{ api, admin, command string }{
		{taken.Addr().String(), "127.0.0.1:0", "serve"},
		{"127.0.0.1:0", taken.Addr().String(), "serve"},
		{"127.0.0.1:0", taken.Addr().String(), "subscribe --id emails"},
	} {
		process := infra.Launch(t, []string{
			"DATABASE_URL=" + database, "NATS_URL=" + infra.Broker(t), "HTTP_ADDR=" + c.api, "ADMIN_ADDR=" + c.admin,
		}, strings.Fields(c.command)...)
		require.Equal(t, 1, process.Wait(), "%+v: %s", c, process)
		require.Contains(t, process.String(), "cannot listen on "+taken.Addr().String())
	}
	require.Zero(t, count(t, openDB(t, database), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"))
}

// TestTheShellsVariablesAreNamed checks that ignored variables are named on standard error, and change nothing.
func TestTheShellsVariablesAreNamed(t *testing.T) {
	t.Parallel()
	environment := []string{"DATABASE_URL=" + infra.Database(t), "PGSERVICE=elsewhere", "PGTARGETSESSIONATTRS=standby", "PGOPTIONS=-cdatestyle=German"}
	said, err := infra.Outboxie(t, environment, "outbox", "status")
	require.NoError(t, err)
	for _, name := range []string{"PGSERVICE", "PGTARGETSESSIONATTRS", "PGOPTIONS"} {
		require.Contains(t, said, name+" is ignored: DATABASE_URL alone")
	}
	said, err = infra.Outboxie(t, append(environment, "PGREQUIREAUTH=none"), "outbox", "status")
	require.Error(t, err)
	require.Contains(t, said, "write require_auth=none into DATABASE_URL")
}
