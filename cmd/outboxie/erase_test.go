package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	customerA = "550e8400-e29b-41d4-a716-446655440000"
	customerB = "550e8400-e29b-41d4-a716-446655440001"
)

// TestErase checks that the command shows what it would do, asks for --yes, and does it once. TestEraseSealed does the same with
// processes.
func TestErase(t *testing.T) {
	o := newOperators(t)
	for _, customer := range []string{customerA, customerB} {
		o.exec(`INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at, payment_reference)
			VALUES (gen_random_uuid(), ?, 100, 'EUR', 'paid', 2, now(), now(), 'card')`, customer)
	}
	o.exec("INSERT INTO customer_keys (key_id, customer_id, key) VALUES (gen_random_uuid(), ?, sha256('x'))", customerA)
	environment := []string{"DATABASE_URL=" + o.address}
	code, stdout, stderr := command(t, environment, "erase", "550E8400-E29B-41D4-A716-446655440000")
	require.Equal(t, exitUsage, code)
	require.Equal(t, "1 order: they get a pseudonym and lose their notes\n0 idempotency keys: deleted\n0 rows of totals: they get the pseudonym\n"+
		"0 dead letters with plain events: discarded, without their payloads\n"+
		"the key of the customer: deleted, so nobody can open 0 sealed events and 0 sealed dead letters\n", stdout)
	require.Equal(t, "outboxie: nothing was done: repeat the command with --yes\n", stderr)

	code, stdout, stderr = command(t, environment, "erase", customerA, "--json", "--yes")
	require.Equal(t, exitClean, code)
	var done erasure
	require.NoError(t, json.Unmarshal([]byte(stdout), &done))
	require.Equal(t, erasure{Done: true, Key: true, Orders: 1, Behind: []erasureBehind{}}, done)
	lines := auditOf(stderr)
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], `action="outboxie erase" arguments="sha256:`)
	require.NotContains(t, stderr, customerA)
	left := 0
	require.NoError(t, o.db.NewRaw("SELECT count(*) FROM orders WHERE payment_reference = 'card'").Scan(t.Context(), &left))
	require.Equal(t, 1, left, "the order of the other customer")

	code, stdout, stderr = command(t, environment, "erase", customerA)
	require.Equal(t, exitClean, code)
	require.Equal(t, "Nothing is left to erase.\n", stdout)
	require.Empty(t, stderr)
}

// TestEraseRefuses checks the errors of the command.
func TestEraseRefuses(t *testing.T) {
	for says, args := range map[string][]string{
		"name one customer by its id: outboxie erase CUSTOMER":              {"erase"},
		"customer_id must be a UUID such as 550e8400-e29b-41d4-a716-446655": {"erase", "me@example.com", "--yes"},
		"DATABASE_URL": {"erase", customerA},
	} {
		code, _, stderr := command(t, nil, args...)
		require.Equal(t, exitUsage, code, says)
		require.Contains(t, stderr, says)
	}
}
