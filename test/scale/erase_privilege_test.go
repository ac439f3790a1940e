//go:build scale

package scale_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// requireErasure erases a customer who has an order, an idempotency key, totals, a key, and a dead letter.
func requireErasure(t *testing.T, p *privileged) {
	t.Helper()
	var customer, order string
	require.NoError(t, p.admin.QueryRow("SELECT o.customer_id, o.id FROM orders AS o JOIN customer_totals USING (customer_id) LIMIT 1").Scan(&customer, &order))
	for _, statement := range []string{
		"INSERT INTO request_keys VALUES ($1::text, 'k', sha256(''), $2::uuid)",
		`INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version, position, subject, headers, payload)
			VALUES ('gone', gen_random_uuid(), 'dead', $1, 1, 'order', $2, 1, 1, 'orders.created', '{}', '{}')`,
	} {
		_, err := p.admin.Exec(statement, customer, order)
		require.NoError(t, err)
	}
	who := p.as(eraser, "")
	require.Contains(t, outboxie(t, who, 2, "erase", customer), "nothing was done: repeat the command with --yes")
	said := outboxie(t, who, 0, "erase", customer, "--yes")
	require.Contains(t, said, "orders: they get a pseudonym")
	require.Contains(t, said, "1 dead letter with plain events: discarded")
	require.Contains(t, said, "the key of the customer: deleted")
	require.Contains(t, outboxie(t, who, 0, "erase", customer), "Nothing is left to erase.")
	_, err := p.admin.Exec("DELETE FROM dead_letters WHERE subscriber = 'gone'; DELETE FROM inbox WHERE subscriber = 'gone'")
	require.NoError(t, err)
	for _, role := range []string{writer, relayer, subscriber, operator} {
		require.Contains(t, outboxie(t, p.as(role, ""), 1, "erase", customer), "right", role)
	}
}
