package e2e_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// given holds the parts of an answer that must be the same when the request is sent again.
type given struct {
	status         int
	location, body string
}

const order = `{"customer_id": "` + infra.Customer + `", "amount": 100.50}`

// post sends a body to a path with an Idempotency-Key.
func post(ctx context.Context, api, path, key, body string) (given, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+api+path, strings.NewReader(body))
	if err != nil {
		return given{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return given{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return given{response.StatusCode, response.Header.Get("Location"), string(text)}, err
}

// placeWith posts an order with an Idempotency-Key.
func placeWith(api, key, body string) (given, error) {
	return post(context.Background(), api, "/orders", key, body)
}

// change posts a change of an order with a key, and returns the status of the answer.
func change(t *testing.T, api, id, verb, key, body string) int {
	t.Helper()
	answer, err := post(t.Context(), api, "/orders/"+id+"/"+verb, key, body)
	require.NoError(t, err)
	return answer.status
}

func requirePlaced(t *testing.T, db *sql.DB, orders int) {
	t.Helper()
	require.Equal(t, orders, count(t, db, "SELECT count(*) FROM orders"))
	require.Equal(t, orders, count(t, db, "SELECT count(*) FROM outbox WHERE aggregate_version = 1"))
}

// placeAtOnce posts one order with the same key many times at once, and returns the answer, which all clients get.
func placeAtOnce(t *testing.T, apis []string) given {
	t.Helper()
	const clients = 16
	answers := make([]given, clients)
	var posting sync.WaitGroup
	for n := range clients {
		posting.Go(func() {
			var err error
			if answers[n], err = placeWith(apis[n%len(apis)], "k", order); err != nil {
				t.Error(err)
			}
		})
	}
	posting.Wait()
	first := answers[0]
	require.Equal(t, http.StatusCreated, first.status, first.body)
	for _, answer := range answers {
		require.Equal(t, first, answer)
	}
	return first
}

const (
	keptKeys    = "SELECT count(*) FROM request_keys"
	privateNote = "a reference that nobody else shall read"
)

// requireUnkept checks that no key is kept for requests that change nothing. The order is paid. It returns how many keys there are.
func requireUnkept(t *testing.T, db *sql.DB, apis []string, order string) int {
	t.Helper()
	const size = "SELECT pg_relation_size('request_keys')"
	bytes, keys := count(t, db, size), count(t, db, keptKeys)
	for n := range 100 { // answered with 404, 409, and 200 for a change that was made before
		key := fmt.Sprintf("%0200d", n)
		for id, status := range map[string]int{strings.Repeat("0", 8) + order[8:]: 404, order: 409} {
			got := change(t, apis[n%len(apis)], id, "pay", key, `{"reference":"`+privateNote+`"}`)
			require.Equal(t, status, got)
		}
		require.Equal(t, http.StatusOK, change(t, apis[n%len(apis)], order, "pay", key, ""))
	}
	require.Equal(t, bytes, count(t, db, size), "the table does not grow")
	require.Equal(t, keys, count(t, db, keptKeys))
	return keys
}

// TestIdempotencyKey checks that an order is placed once, although it is posted many times, at the same time and later, over two instances.
func TestIdempotencyKey(t *testing.T) {
	database, broker := infra.Database(t), infra.Broker(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker}
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(`INSERT INTO request_keys SELECT 'somebody', 'old-' || n, sha256(''), gen_random_uuid(), now() - interval '1 day'
		FROM generate_series(1, 2500) AS n`)
	require.NoError(t, err)
	apis := []string{infra.Serve(t, "first", environment).API(), infra.Serve(t, "second", environment).API()}
	require.Eventually(t, func() bool { return count(t, db, "SELECT count(*) FROM request_keys") == 0 }, waitTimeout, 10*time.Millisecond)

	first := placeAtOnce(t, apis)
	requirePlaced(t, db, 1)

	var known infra.Order
	require.NoError(t, json.Unmarshal([]byte(first.body), &known))
	require.Equal(t, "/orders/"+known.ID, first.location)
	_, err = infra.Transition(apis[0], known.ID, "pay")
	require.NoError(t, err)
	written := `{"currency":"USD","amount":"1005e-1","customer_id":"` + strings.ToUpper(infra.Customer) + `"}`
	for _, body := range []string{order, written} {
		again, err := placeWith(apis[1], "k", body)
		require.NoError(t, err)
		require.Equal(t, first, again, "though the order was paid")
	}
	other, err := placeWith(apis[1], "k", strings.Replace(order, "100.50", "100.51", 1))
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, other.status)
	require.Contains(t, other.body, `"code":"idempotency_key_reused"`)
	requirePlaced(t, db, 1)

	keys := requireUnkept(t, db, apis, known.ID)
	require.Equal(t, http.StatusOK, change(t, apis[0], known.ID, "ship", "s", `{"carrier":"`+privateNote+`"}`))
	require.Equal(t, keys+1, count(t, db, keptKeys))
	require.Zero(t, count(t, db, "SELECT count(*) FROM request_keys AS k WHERE strpos(k::text, 'reference') > 0"))
	require.Zero(t, count(t, db, "SELECT count(*) FROM idempotency_keys"))

	_, err = db.Exec("UPDATE request_keys SET created_at = created_at - interval '1 day'")
	require.NoError(t, err)
	later, err := placeWith(apis[0], "k", order)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, later.status)
	require.NotEqual(t, first.location, later.location)
	requirePlaced(t, db, 2)
}

// TestRetryAfterAKill checks that a retry waits for the outcome of the first request, whose instance was killed while Postgres ran the statements
// that follow the key. Postgres has got the COMMIT with them, so it goes on, unless it notices before that its client is gone. A trigger that
// waits for a lock of the test chooses the moment.
func TestRetryAfterAKill(t *testing.T) {
	for name, c := range map[string]killedRequest{
		"before the commit":                {"NOT DEFERRABLE", "0", true},
		"in the commit":                    {"DEFERRABLE INITIALLY DEFERRED", "0", true},
		"before the commit, and noticed":   {"NOT DEFERRABLE", "100ms", false},
		"in the commit, which was noticed": {"DEFERRABLE INITIALLY DEFERRED", "100ms", false},
	} {
		t.Run(name, c.retry)
	}
}

// killedRequest is a request whose instance is killed at some moment.
type killedRequest struct {
	trigger  string // when the trigger runs, which waits for the lock of the test
	check    string // how often Postgres looks whether its client is there; 0: never
	survives bool   // the order of the request is placed
}

// retry kills the instance, and sends the request to another one.
func (c killedRequest) retry(t *testing.T) {
	database, broker := infra.Database(t), infra.Broker(t)
	environment := []string{
		"DATABASE_URL=" + database + "&client_connection_check_interval=" + c.check, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s",
	}
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	first, second := infra.Serve(t, "first", environment), infra.Serve(t, "second", environment)
	lock := holdUp(t, db, c.trigger)
	defer lock.Close()

	lost := make(chan error, 1)
	go func() {
		_, err := placeWith(first.API(), "k", order)
		lost <- err
	}()
	const placing = `%INSERT INTO "orders"%INSERT INTO outbox%` // Postgres cuts the text before the COMMIT
	requireWaiting(t, db, placing, "advisory", time.Time{})
	first.Kill()
	require.Error(t, <-lost)
	type result struct {
		given
		err error
	}
	retried := make(chan result, 1)
	killed := time.Now()
	go func() {
		answer, err := placeWith(second.API(), "k", order)
		retried <- result{answer, err}
	}()
	if c.survives {
		requireWaiting(t, db, "%INSERT INTO request_keys%", "transactionid", killed)
	} else {
		requireWaiting(t, db, placing, "advisory", killed)
	}
	_, err = lock.ExecContext(t.Context(), "SELECT pg_advisory_unlock(1)")
	require.NoError(t, err)

	answer := <-retried
	require.NoError(t, answer.err)
	require.Equal(t, http.StatusCreated, answer.status, answer.body)
	requirePlaced(t, db, 1)
	var created time.Time
	require.NoError(t, db.QueryRow("SELECT created_at FROM orders WHERE '/orders/' || id = $1", answer.location).Scan(&created))
	require.Equal(t, c.survives, created.Before(killed), "whose order it is")
	again, err := placeWith(second.API(), "k", order)
	require.NoError(t, err)
	require.Equal(t, answer.given, again)
	requirePlaced(t, db, 1)
	require.Eventually(t, func() bool { return published(t, broker) == 1 }, waitTimeout, 10*time.Millisecond)
	requireStream(t, db, broker, "ORDERS")
}

// holdUp makes each insert into the outbox wait for a lock, and returns the session that holds it.
func holdUp(t *testing.T, db *sql.DB, trigger string) *sql.Conn {
	t.Helper()
	_, err := db.Exec(`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON outbox ` + trigger + ` FOR EACH ROW EXECUTE FUNCTION wait()`)
	require.NoError(t, err)
	lock, err := db.Conn(t.Context())
	require.NoError(t, err)
	_, err = lock.ExecContext(t.Context(), "SELECT pg_advisory_lock(1)")
	require.NoError(t, err)
	return lock
}

// requireWaiting waits until a session waits for an event in a statement that began after a time.
func requireWaiting(t *testing.T, db *sql.DB, statement, event string, after time.Time) {
	t.Helper()
	require.Eventually(t, func() bool {
		return count(t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND query ILIKE '`+statement+`' AND wait_event = '`+event+`' AND query_start > '`+after.Format(time.RFC3339Nano)+`'`) == 1
	}, waitTimeout, 5*time.Millisecond)
}
