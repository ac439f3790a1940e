package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStatementsAreSummarized checks the name of a statement's span, and that a statement names a table or an operation only if it has
// a single one.
func TestStatementsAreSummarized(t *testing.T) {
	for text, want := range map[string][3]string{ // summary, operation, table
		"BEGIN": {"BEGIN", "BEGIN", ""}, "commit": {"COMMIT", "COMMIT", ""}, "": {"QUERY", "QUERY", ""},
		"SELECT 1": {"SELECT", "SELECT", ""}, "SELECT pg_notify(?, 'from here')": {"SELECT", "SELECT", ""},
		`INSERT INTO "outbox" ("event_id") VALUES (?)`:                            {"INSERT outbox", "INSERT", "outbox"},
		"INSERT INTO a (b) VALUES (?) ON CONFLICT (b) DO UPDATE SET c = d.c":      {"INSERT a", "INSERT", "a"},
		"UPDATE public.leases AS l SET holder = ?":                                {"UPDATE public.leases", "UPDATE", "public.leases"},
		"delete from only inbox where position < ?":                               {"DELETE inbox", "DELETE", "inbox"},
		"SELECT id FROM orders WHERE id = ? FOR UPDATE SKIP LOCKED":               {"SELECT orders", "SELECT", "orders"},
		"SELECT * FROM orders AS o, outbox AS e WHERE o.id = e.aggregate_id":      {"SELECT orders outbox", "SELECT", ""},
		"SELECT * FROM a JOIN b ON true LEFT JOIN LATERAL (SELECT 1) AS x":        {"SELECT a b SELECT", "SELECT", ""},
		"SELECT * FROM unnest(?) AS u, outbox WHERE x IS DISTINCT FROM y":         {"SELECT outbox", "SELECT", "outbox"},
		"SELECT EXTRACT(epoch FROM recorded_at) FROM outbox -- from elsewhere":    {"SELECT outbox", "SELECT", "outbox"},
		"INSERT INTO totals AS t SELECT customer FROM orders":                     {"INSERT totals SELECT orders", "", ""},
		"WITH gone AS (DELETE FROM outbox RETURNING *) SELECT count(*) FROM gone": {"DELETE outbox SELECT", "", "outbox"},
		"WITH taken AS (\nUPDATE lanes SET a = ? RETURNING 1), recorded AS (\nINSERT INTO inbox (b)\nSELECT ? FROM taken) SELECT 1": {
			"UPDATE lanes INSERT inbox SELECT", "", "",
		},
		"nonsense ?": {"NONSENSE", "NONSENSE", ""},
	} {
		got, attributes := summarize(text), make(map[string]string)
		for _, attribute := range got.attributes {
			attributes[string(attribute.Key)] = attribute.Value.AsString()
		}
		require.Equal(t, want, [3]string{got.summary, attributes["db.operation.name"], attributes["db.collection.name"]}, text)
		require.Equal(t, got.summary, attributes["db.query.summary"])
	}
}

// TestSummariesAreBounded checks that a long statement has a short summary that ends with a whole word, and that any number of
// statements needs a bounded memory.
func TestSummariesAreBounded(t *testing.T) {
	var long strings.Builder
	for n := range 100 {
		fmt.Fprintf(&long, "SELECT * FROM table_%d ", n)
	}
	got := summarize(long.String()).summary
	require.LessOrEqual(t, len(got), maxSummary)
	require.Regexp(t, `(SELECT|table_\d+)$`, got)
	var s summaries
	for n := range 2 * maxSummaries {
		text := fmt.Sprintf("SELECT * FROM t%d", n)
		require.Equal(t, fmt.Sprintf("SELECT t%d", n), s.of(text).summary)
		require.Equal(t, s.of(text), s.of(text))
	}
	require.Len(t, s.made, maxSummaries)
}
