package bench_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const clients = 32

// measureThroughput posts orders as fast as 32 clients can, and lets pgbench make the same transactions on the same server.
func measureThroughput(t *testing.T, size scale) []figure {
	t.Helper()
	server, broker := infra.Postgres(t), infra.NATS(t)
	pgbench, err := server.Tool("pgbench")
	if err != nil {
		t.Logf("not measured: %v; Debian has it in the package postgresql", err)
		return nil
	}
	var alone, whole, floor []float64
	for range size.rounds {
		floor = append(floor, runPgbench(t, pgbench, server.URL, size.load))
		for _, run := range []struct {
			roles string
			into  *[]float64
		}{{"api", &alone}, {"api,relay", &whole}} {
			instance := launch(t, server.URL, broker.URL, nil, run.roles)
			post(t, instance.API(), time.Second) // connects it to Postgres, which pgbench leaves out of its rate, too
			*run.into = append(*run.into, post(t, instance.API(), size.load))
			instance.Kill()
		}
	}
	floorText := fmt.Sprintf("pgbench, the same statements and clients: %.0f/s", median(floor))
	return []figure{
		{
			name: "POST /orders, 32 clients, API alone", measured: fmt.Sprintf("%.0f orders/s", median(alone)),
			floor: floorText, ratio: pairwise(alone, floor), unit: "%", goal: 0.6,
		},
		{
			name: "the same, while the relay of the same instance delivers them", measured: fmt.Sprintf("%.0f orders/s", median(whole)),
			floor: floorText, ratio: pairwise(whole, floor), unit: "%",
		},
	}
}

// placement is the transaction of a POST /orders, as the API sends it.
const placement = `BEGIN;
INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
	VALUES (gen_random_uuid(), '550e8400-e29b-41d4-a716-446655440000', 10050, 'USD', 'created', 1, now(), clock_timestamp());
INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
	VALUES (gen_random_uuid(), 'order', gen_random_uuid()::text, 1, 'outboxie.order.created.v1', 'orders.created',
		'{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}',
		'{"order_id":"01a208ab-3be5-77ba-a411-d0614a94e989","customer_id":"550e8400-e29b-41d4-a716-446655440000","amount":"100.50","currency":"USD"}')
	RETURNING position, set_config('idle_in_transaction_session_timeout', '10000', true);
COMMIT;
`

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// runPgbench lets pgbench make as many transactions as take about load, but at least some seconds. It does not use pgbench's time limit, which
// begins before the clients are connected: 32 passwords take half a second of a processor.
func runPgbench(t *testing.T, program, database string, load time.Duration) float64 {
	t.Helper()
	script := filepath.Join(t.TempDir(), "order.sql")
	require.NoError(t, os.WriteFile(script, []byte(placement), 0o600))
	said, err := exec.CommandContext(t.Context(), program, "-n", "-M", "simple", "-j", "2", "-c", strconv.Itoa(clients),
		"-t", strconv.Itoa(int(max(load, 3*time.Second)/(20*time.Millisecond))), "-f", script, database).CombinedOutput()
	require.NoError(t, err, "%s", said)
	found := tps.FindSubmatch(said)
	require.NotNil(t, found, "%s", said)
	rate, err := strconv.ParseFloat(string(found[1]), 64)
	require.NoError(t, err)
	return rate
}

// post lets each client post one order after the other on a connection of its own. The clients do as little as they can, because they use the
// same processors.
func post(t *testing.T, api string, load time.Duration) float64 {
	t.Helper()
	body := `{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 100.50}`
	request := fmt.Sprintf("POST /orders HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", api, len(body), body)
	placed := make([]int, clients)
	var group errgroup.Group
	began := time.Now()
	for client := range clients {
		group.Go(func() error {
			connection, err := net.Dial("tcp", api)
			if err != nil {
				return err
			}
			defer connection.Close()
			answers := bufio.NewReader(connection)
			for time.Since(began) < load {
				if err := postOne(connection, answers, request); err != nil {
					return err
				}
				placed[client]++
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	total := 0
	for _, orders := range placed {
		total += orders
	}
	return perSecond(total, time.Since(began))
}

func postOne(connection io.Writer, answers *bufio.Reader, request string) error {
	if _, err := io.WriteString(connection, request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return err
}

func databaseName(t *testing.T, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	return strings.TrimPrefix(parsed.Path, "/")
}
