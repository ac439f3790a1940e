package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// downToEarlierKeys takes migrations back to the version in which a key is unique for all customers together.
func downToEarlierKeys(t *testing.T, h *harness) {
	t.Helper()
	downTo(t, h.others, 12)
	require.Zero(t, count(t, h, "SELECT count(to_regclass('request_keys'))"))
}

// The statements that the earlier version sends, word for word.
const (
	earlierClaim = `
INSERT INTO idempotency_keys AS held (key, fingerprint, order_id)
SELECT ?0, ?1, ?2::uuid FROM set_config('idle_in_transaction_session_timeout', ?3, true)
ON CONFLICT (key) DO UPDATE
	SET fingerprint = excluded.fingerprint, order_id = excluded.order_id, created_at = clock_timestamp()
	WHERE held.created_at <= clock_timestamp() - ?4 * interval '1 microsecond'
RETURNING order_id`
	earlierLook   = "SELECT fingerprint, order_id FROM idempotency_keys WHERE key = ?"
	earlierDelete = `
DELETE FROM idempotency_keys WHERE key = ANY (ARRAY (
	SELECT key FROM idempotency_keys WHERE created_at <= now() - ?0 * interval '1 microsecond'
	ORDER BY created_at LIMIT ?1 FOR UPDATE SKIP LOCKED))`
)

var errReused = errors.New("422")

// request is a request that both versions understand: to place an order, or to pay one.
type request struct {
	customer value.CustomerID
	key      orders.Key
	text     string   // what the request asks, as both versions write it
	pays     order.ID // empty: it places an order
}

func placing(customer string, key orders.Key, minor int) request {
	id := value.CustomerID("00000000-0000-4000-8000-00000000000" + customer)
	return request{customer: id, key: key, text: fmt.Sprintf("place %s %d USD", id, minor)}
}

// earlierProgram does what the earlier version does in its transaction. It returns the id of the order in the answer.
func earlierProgram(ctx context.Context, tx bun.Tx, r request) (answer string, err error) {
	mine := string(r.pays)
	if mine == "" {
		mine = string(newClaim("").Order)
	}
	var id, fingerprint string
	err = tx.QueryRowContext(ctx, earlierClaim, string(r.key), r.text, mine, "10000", orders.KeyLifetime.Microseconds()).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		if err := tx.QueryRowContext(ctx, earlierLook, string(r.key)).Scan(&fingerprint, &id); err != nil {
			return "", err
		}
		if fingerprint != r.text {
			return "", errReused
		}
		return id, nil
	}
	if err != nil || r.pays != "" {
		return mine, err
	}
	return mine, insertOrder(ctx, tx, mine, r.customer)
}

func insertOrder(ctx context.Context, db bun.IDB, id string, customer value.CustomerID) error {
	_, err := db.ExecContext(ctx, `INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
		VALUES (?, ?, 1, 'USD', 'created', 1, now(), now())`, id, string(customer))
	return err
}

// present does what this version does in its transaction.
func present(ctx context.Context, tx bun.Tx, r request) (answer string, err error) {
	mine := orders.KeyClaim{Scope: orders.ScopeOf(order.Anyone(), r.customer), Key: r.key, Digest: orders.DigestOf(r.text), Order: r.pays}
	if r.pays == "" {
		mine.Order = newClaim("").Order
	}
	holds, err := postgres.KeysOf(tx).Claim(ctx, mine)
	switch {
	case err != nil:
		return "", err
	case holds.Digest != mine.Digest:
		return "", errReused
	case holds == mine && r.pays == "":
		return string(mine.Order), insertOrder(ctx, tx, string(mine.Order), r.customer)
	}
	return string(holds.Order), nil
}

type answerer = func(ctx context.Context, tx bun.Tx, r request) (string, error)

// ask sends a request to one version. The functions in before run inside the transaction, once the answer is known.
func ask(t *testing.T, h *harness, do answerer, r request, before ...func()) (answer string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = h.db.RunInTx(ctx, &sql.TxOptions{}, func(ctx context.Context, tx bun.Tx) error {
		var err error
		answer, err = do(ctx, tx, r)
		for _, then := range before {
			then()
		}
		return err
	})
	return answer, err
}

func count(t *testing.T, h *harness, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, h.others.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

func ageAll(t *testing.T, h *harness, by time.Duration) {
	for _, table := range []string{"idempotency_keys", "request_keys"} {
		exec(t, h.others, "UPDATE ? SET created_at = created_at - ? * interval '1 microsecond'", bun.Ident(table), by.Microseconds())
	}
}

// TestKeysWhileTwoProgramsServe checks an update during which both versions serve. A request that one version has answered gets
// the same order from the other version. No second order is created.
func TestKeysWhileTwoProgramsServe(t *testing.T) {
	programs := map[string]answerer{"earlier": earlierProgram, "present": present}
	for first, one := range programs {
		for second, other := range programs {
			t.Run(first+", then "+second, func(t *testing.T) {
				t.Parallel()
				h := newHarness(t)
				r := placing("1", "k", 100)
				answer, err := ask(t, h, one, r)
				require.NoError(t, err)
				for _, program := range []answerer{other, one, other} {
					again, err := ask(t, h, program, r)
					require.NoError(t, err)
					require.Equal(t, answer, again)
				}
				require.Equal(t, 1, count(t, h, "SELECT count(*) FROM orders"), "there is no second one")
				for _, program := range []answerer{other, one} {
					_, err := ask(t, h, program, placing("1", "k", 101))
					require.ErrorIs(t, err, errReused)
				}

				_, err = ask(t, h, one, placing("1", "fresh", 1))
				require.NoError(t, err)
				_, err = ask(t, h, other, placing("1", "fresh", 2))
				require.ErrorIs(t, err, errReused, "though it has never seen the key")

				pays := request{customer: r.customer, key: "p", text: `pay ` + answer + ` "P 1"`, pays: order.ID(answer)}
				for _, program := range []answerer{one, other, one} {
					paid, err := ask(t, h, program, pays)
					require.NoError(t, err)
					require.Equal(t, answer, paid)
				}
				pays.text += "2"
				for _, program := range []answerer{one, other} {
					_, err := ask(t, h, program, pays)
					require.ErrorIs(t, err, errReused)
				}

				ageAll(t, h, orders.KeyLifetime)
				later, err := ask(t, h, other, r)
				require.NoError(t, err)
				require.NotEqual(t, answer, later, "the key has expired")
				again, err := ask(t, h, one, r)
				require.NoError(t, err)
				require.Equal(t, later, again)

				ageAll(t, h, orders.KeyLifetime)
				exec(t, h.others, earlierDelete, orders.KeyLifetime.Microseconds(), 1000)
				for range 2 {
					_, err := postgres.NewExpiredKeys(h.db).Delete(t.Context(), 1000)
					require.NoError(t, err)
				}
				require.Zero(t, count(t, h, "SELECT (SELECT count(*) FROM request_keys) + (SELECT count(*) FROM idempotency_keys)"))
			})
		}
	}
}

// TestTwoProgramsAtOnce checks that a request that is sent to both versions at the same time creates one order, whichever
// version is first, also if the first one fails.
func TestTwoProgramsAtOnce(t *testing.T) {
	programs := map[string]answerer{"earlier": earlierProgram, "present": present}
	for first, one := range programs {
		for second, other := range programs {
			for _, outcome := range []error{nil, sql.ErrTxDone} {
				t.Run(fmt.Sprintf("%s, %s, %v", first, second, outcome), func(t *testing.T) {
					t.Parallel()
					h := newHarness(t)
					r := placing("1", "k", 100)
					type result struct {
						answer string
						err    error
					}
					waited := make(chan result, 1)
					failing := func(ctx context.Context, tx bun.Tx, r request) (string, error) {
						answer, err := one(ctx, tx, r)
						return answer, errors.Join(err, outcome)
					}
					answer, err := ask(t, h, failing, r, func() {
						go func() {
							answer, err := ask(t, h, other, r)
							waited <- result{answer, err}
						}()
						require.Eventually(t, func() bool {
							return count(t, h, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
						}, beginTimeout, 5*time.Millisecond)
					})
					require.ErrorIs(t, err, outcome)
					later := <-waited
					require.NoError(t, later.err)
					require.Equal(t, outcome == nil, answer == later.answer)
					require.Equal(t, 1, count(t, h, "SELECT count(*) FROM orders"))
					again, err := ask(t, h, one, r)
					require.NoError(t, err)
					require.Equal(t, later.answer, again)
				})
			}
		}
	}
}

// TestTwoCustomersWhileTwoProgramsServe checks two customers that use the same key. The earlier version refuses the second
// customer, and this version does not. Both keep their answers.
func TestTwoCustomersWhileTwoProgramsServe(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	one, two := placing("1", "k", 100), placing("2", "k", 100)
	answers := map[string]string{}
	var err error
	answers["1"], err = ask(t, h, earlierProgram, one)
	require.NoError(t, err)
	_, err = ask(t, h, earlierProgram, two)
	require.ErrorIs(t, err, errReused)
	answers["2"], err = ask(t, h, present, two)
	require.NoError(t, err)
	_, err = ask(t, h, earlierProgram, two)
	require.ErrorIs(t, err, errReused)
	for range 2 {
		for customer, answer := range answers {
			again, err := ask(t, h, present, placing(customer, "k", 100))
			require.NoError(t, err)
			require.Equal(t, answer, again)
		}
	}
	require.Equal(t, 2, count(t, h, "SELECT count(*) FROM orders"))
}

// TestMigrationKeepsTheKeys checks an upgrade while the earlier version claims keys. Afterwards, both versions answer each
// earlier request with the same order.
func TestMigrationKeepsTheKeys(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	downToEarlierKeys(t, h)
	answers := map[request]string{}
	for n := range 40 {
		r := placing("1", orders.Key(fmt.Sprintf("before-%d", n)), n+1)
		answer, err := ask(t, h, earlierProgram, r)
		require.NoError(t, err)
		answers[r] = answer
	}
	old := placing("1", "old", 1)
	expired, err := ask(t, h, earlierProgram, old)
	require.NoError(t, err)
	exec(t, h.others, "UPDATE idempotency_keys SET created_at = created_at - interval '1 day' WHERE key = 'old'")
	paying := request{customer: old.customer, key: "pay", text: `pay ` + expired + ` "P-1"`, pays: order.ID(expired)}
	answers[paying], err = ask(t, h, earlierProgram, paying)
	require.NoError(t, err)

	migrated := make(chan error, 1)
	go func() { migrated <- postgres.MigrateUp(t.Context(), h.others, quiet) }()
	slowest, done := time.Duration(0), false
	for n := 0; !done; n++ {
		r, start := placing("2", orders.Key(fmt.Sprintf("meanwhile-%d", n)), n+1), time.Now()
		answer, err := ask(t, h, earlierProgram, r)
		require.NoError(t, err)
		slowest = max(slowest, time.Since(start))
		answers[r] = answer
		select {
		case err := <-migrated:
			require.NoError(t, err)
			done = true
		default:
		}
	}
	t.Logf("%d requests, the slowest during the migration took %v", len(answers), slowest)
	require.Less(t, slowest, 5*time.Second)
	for _, program := range []answerer{present, earlierProgram, present} {
		for r, answer := range answers {
			again, err := ask(t, h, program, r)
			require.NoError(t, err, "%+v", r)
			require.Equal(t, answer, again, "%+v", r)
		}
	}
	later, err := ask(t, h, present, old)
	require.NoError(t, err)
	require.NotEqual(t, expired, later)
}

// TestMigrationKeepsTheRights checks that roles with rights on the earlier table get the same rights on the new table, before
// the file with the rights runs again.
func TestMigrationKeepsTheRights(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	role := "writer_of_" + h.name
	downToEarlierKeys(t, h)
	exec(t, h.others, "CREATE ROLE ?", bun.Ident(role))
	t.Cleanup(func() {
		_, err := h.others.ExecContext(context.Background(), "DROP OWNED BY ?0; DROP ROLE ?0", bun.Ident(role))
		require.NoError(t, err)
	})
	exec(t, h.others, "GRANT SELECT, INSERT, UPDATE ON orders TO ?", bun.Ident(role))
	exec(t, h.others, "GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO ?", bun.Ident(role))
	require.NoError(t, postgres.MigrateUp(t.Context(), h.others, quiet))
	as := func(program answerer) answerer {
		return func(ctx context.Context, tx bun.Tx, r request) (string, error) {
			if _, err := tx.ExecContext(ctx, "SET LOCAL ROLE ?", bun.Ident(role)); err != nil {
				return "", err
			}
			return program(ctx, tx, r)
		}
	}
	answer, err := ask(t, h, as(earlierProgram), placing("1", "k", 1))
	require.NoError(t, err)
	again, err := ask(t, h, as(present), placing("1", "k", 1))
	require.NoError(t, err)
	require.Equal(t, answer, again)
}

// TestAKeysCustomerCanBeErased checks that the documented statements delete the request keys of one customer, and none of other
// customers.
func TestAKeysCustomerCanBeErased(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const customer = "550e8400-e29b-41d4-a716-446655440000"
	r := placing("1", "k", 1)
	for _, customer := range []value.CustomerID{customer, r.customer} {
		r.customer, r.text = customer, fmt.Sprintf("place %s 1 USD", customer)
		for key, program := range map[orders.Key]answerer{"p" + orders.Key(customer): present, "e" + orders.Key(customer): earlierProgram} {
			r.key = key
			_, err := ask(t, h, program, r)
			require.NoError(t, err)
		}
	}
	require.Equal(t, 4, count(t, h, "SELECT count(*) FROM request_keys"))
	for _, statement := range documented(t, "The keys of a customer") {
		exec(t, h.others, statement)
	}
	require.Equal(t, 2, count(t, h, "SELECT count(*) FROM request_keys"))
	require.Equal(t, 1, count(t, h, "SELECT count(*) FROM idempotency_keys"))
	require.Zero(t, count(t, h, "SELECT count(*) FROM request_keys WHERE scope = ?", customer))
}
