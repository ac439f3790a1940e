package sidecar_test

import (
	"database/sql"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/test/contract"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestSnippets checks that docs/sidecar.md is right: its file of settings, the rights of its role, and its programs in SQL, Python and
// TypeScript. psql, Python and Node run the programs in this order. The relay publishes their events as valid CloudEvents in order.
func TestSnippets(t *testing.T) {
	psql, python, node := findPsql(t), findPython(t), findNode(t)
	page, broker, database := readPage(t), infra.Broker(t), emptyDatabase(t)
	file := filepath.Join(t.TempDir(), "billing.env")
	lines := regexp.MustCompile(`(?m)^(DATABASE|NATS)_URL=.*$`).ReplaceAllStringFunc(page["ini"][0], func(line string) string {
		if strings.HasPrefix(line, "NATS") {
			return "NATS_URL=" + broker
		}
		return "DATABASE_URL=" + database
	})
	require.NoError(t, os.WriteFile(file, []byte(lines), 0o600))
	process, admin := relay(t, file)
	waitForState(t, admin, "billing", httpapi.RelayStateStateLeading)

	t.Cleanup(func() { dropRole(t, database) })
	run(t, database, psql, writeFile(t, "tables.sql", page["sql"][0]))
	service := asService(t, database)
	run(t, service, psql, writeFile(t, "issue.sql", page["sql"][1]))
	run(t, service, python, writeFile(t, "pay.py", page["python"][0]))
	run(t, service, node, writeFile(t, "archive.ts", page["typescript"][0]))

	messages := received(t, broker, "INVOICES", 3)
	for i, name := range []string{"issued", "paid", "archived"} {
		event, err := contract.CloudEvent(messages[i].Header, messages[i].Data)
		require.NoError(t, err)
		require.Equal(t, "invoices."+name, messages[i].Subject)
		require.Equal(t, "acme.invoice."+name+".v1", event.Type())
		require.Equal(t, "/acme/billing", event.Source())
		require.Equal(t, "inv-7", event.Subject())
		require.Equal(t, []string{"1", "2", "3"}[i], messages[i].Header.Get("Outbox-Aggregate-Version"))
		require.Contains(t, string(event.Data()), `"inv-7"`)
	}
	said, err := infra.Outboxie(t, nil, "outbox", "status", "--env-file", file)
	require.NoError(t, err, said)
	require.Contains(t, said, "INVOICES")
	require.Zero(t, process.Stop(syscall.SIGTERM))
}

// readPage returns the blocks of docs/sidecar.md, by language.
func readPage(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/sidecar.md")
	require.NoError(t, err)
	page := make(map[string][]string)
	for _, block := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		page[block[1]] = append(page[block[1]], block[2])
	}
	require.Len(t, page["ini"], 1)
	require.Len(t, page["sql"], 2)
	require.Len(t, page["python"], 1)
	require.Len(t, page["typescript"], 1)
	return page
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// program returns the command that runs a file.
type program func(database, file string) *exec.Cmd

func run(t *testing.T, database string, with program, file string) {
	t.Helper()
	command := with(database, file)
	command.Env = append(os.Environ(), "DATABASE_URL="+database)
	said, err := command.CombinedOutput()
	require.NoError(t, err, "%s: %s", command, said)
}

func findPsql(t *testing.T) program {
	t.Helper()
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	require.NoError(t, err)
	for _, candidate := range append([]string{"psql", filepath.Join(os.Getenv("OUTBOXIE_PG_HOME"), "bin/psql")}, installed...) {
		if path, err := exec.LookPath(candidate); err == nil {
			return func(database, file string) *exec.Cmd {
				return exec.Command(path, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", file, database)
			}
		}
	}
	require.FailNow(t, "psql is missing", "install the client of Postgres (Debian: postgresql-client)")
	return nil
}

func findPython(t *testing.T) program {
	t.Helper()
	var said []string
	for _, candidate := range []string{"python3", "/usr/bin/python3"} { // a Python of the user hides the packages of the system
		answer, err := exec.Command(candidate, "-c", "import psycopg").CombinedOutput()
		if err == nil {
			return func(_, file string) *exec.Cmd { return exec.Command(candidate, file) }
		}
		said = append(said, candidate+": "+err.Error()+" "+string(answer))
	}
	require.FailNow(t, "Python with psycopg 3 is missing",
		"install it (Debian: python3 and python3-psycopg; elsewhere: pip install \"psycopg[binary]==3.1.7\")\n%s", strings.Join(said, "\n"))
	return nil
}

// findNode returns a program that compiles a file of TypeScript beside the packages of this folder, and runs it.
func findNode(t *testing.T) program {
	t.Helper()
	node, err := exec.LookPath("node")
	require.NoError(t, err, "Node is missing: install it (Debian: nodejs and npm), and run `make sidecar-clients`")
	packages, err := filepath.Abs("node_modules")
	require.NoError(t, err)
	for _, needed := range []string{"pg", "esbuild"} {
		require.DirExists(t, filepath.Join(packages, needed), "the packages of test/sidecar are missing: run `make sidecar-clients`")
	}
	return func(_, file string) *exec.Cmd {
		compiled := strings.TrimSuffix(file, ".ts") + ".mjs"
		said, err := exec.Command(filepath.Join(packages, ".bin", "esbuild"), file, "--format=esm", "--outfile="+compiled).CombinedOutput()
		require.NoError(t, err, "%s", said)
		require.NoError(t, os.Symlink(packages, filepath.Join(filepath.Dir(file), "node_modules")))
		return exec.Command(node, compiled)
	}
}

const role = "invoice_service"

// asService returns the address of the database for the role of the page.
func asService(t *testing.T, database string) string {
	t.Helper()
	address, err := url.Parse(database)
	require.NoError(t, err)
	address.User = url.UserPassword(role, "choose-another-one")
	return address.String()
}

// dropRole drops the role, which belongs to all databases of the server.
func dropRole(t *testing.T, database string) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("DROP OWNED BY " + role + "; DROP ROLE " + role) //nolint:noctx // the test's context has ended
	require.NoError(t, err)
}

// received returns the messages of a stream, once it has so many.
func received(t *testing.T, broker, stream string, want int) (messages []*nats.Msg) {
	t.Helper()
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	consumer, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"invoices.>"}})
	require.NoError(t, err)
	batch, err := consumer.Fetch(want, jetstream.FetchMaxWait(waitTimeout))
	require.NoError(t, err)
	for message := range batch.Messages() {
		messages = append(messages, &nats.Msg{Subject: message.Subject(), Header: message.Headers(), Data: slices.Clone(message.Data())})
	}
	require.NoError(t, batch.Error())
	require.Len(t, messages, want)
	time.Sleep(time.Second) // nothing may follow
	info, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	require.EqualValues(t, want, info.CachedInfo().State.Msgs)
	return messages
}
