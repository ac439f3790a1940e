package postgres_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// node is a node of a plan from EXPLAIN (ANALYZE, FORMAT JSON).
type node struct {
	Type    string  `json:"Node Type"`
	Index   string  `json:"Index Name"`
	Rows    float64 `json:"Actual Rows"`
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Plans   []node
}

// read returns how many rows the plan's scans have read.
func (n node) read() float64 {
	read := 0.0
	if len(n.Plans) == 0 {
		read = (n.Rows + n.Removed) * n.Loops
	}
	for _, part := range n.Plans {
		read += part.read()
	}
	return read
}

// TestEveryCombinationOfFiltersReadsAPage checks that a page reads only the rows that it shows, for every combination of
// filters, even if no order matches. Half of the orders belong to one customer, who has no paid order. Half of the other orders
// are paid.
func TestEveryCombinationOfFiltersReadsAPage(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const big, small, nobody = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000003"
	exec(t, h.others, `INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
		SELECT gen_random_uuid(), CASE n % 4 WHEN 0 THEN ?::uuid WHEN 1 THEN gen_random_uuid() ELSE ?::uuid END, 1, 'USD',
			CASE n % 4 WHEN 0 THEN 'paid' WHEN 1 THEN 'shipped' ELSE 'created' END, 1, timestamptz '2026-01-01' + n * interval '1 minute', now()
		FROM generate_series(1, 20000) AS n`, small, big)
	exec(t, h.others, "ANALYZE orders")
	middle := time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC)
	const limit = 51
	combinations := 0
	for _, customer := range []value.CustomerID{"", big, small, nobody} {
		for _, status := range []order.Status{"", order.StatusCreated, order.StatusPaid, order.StatusCancelled} {
			for range_ := range 8 {
				filter := orders.Filter{Customer: customer, Status: status, Limit: limit}
				if range_&1 != 0 {
					filter.CreatedFrom = middle.Add(-48 * time.Hour)
				}
				if range_&2 != 0 {
					filter.CreatedBefore = middle
				}
				if range_&4 != 0 {
					filter.After = &orders.PageCursor{CreatedAt: middle.Add(-time.Hour), ID: newClaim("").Order}
				}
				combinations++
				statement := listStatement(t, h, filter)
				plan := analyzed(t, h, statement)
				require.LessOrEqual(t, plan.read(), float64(limit+1), "%s\n%+v", statement, plan)
			}
		}
	}
	require.Equal(t, 128, combinations)

	exec(t, h.others, "DROP INDEX orders_of_customer_status")
	plan := analyzed(t, h, listStatement(t, h, orders.Filter{Customer: big, Status: order.StatusPaid, Limit: limit}))
	require.Greater(t, plan.read(), 1000.0, "without the index the plan reads many rows")
}

func listStatement(t *testing.T, h *harness, filter orders.Filter) string {
	t.Helper()
	sent := &statements{}
	_, err := postgres.NewOrderReader(h.db.WithQueryHook(sent)).List(t.Context(), filter)
	require.NoError(t, err)
	require.Len(t, sent.queries, 1, "a read needs no transaction")
	return sent.queries[0]
}

func analyzed(t *testing.T, h *harness, statement string) node {
	t.Helper()
	var text string
	require.NoError(t, h.others.QueryRowContext(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+statement).Scan(&text))
	var plans []struct{ Plan node }
	require.NoError(t, json.Unmarshal([]byte(text), &plans), text)
	require.Len(t, plans, 1, fmt.Sprint(text))
	return plans[0].Plan
}
