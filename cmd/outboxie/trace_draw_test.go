package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStatementsAreNamed checks how a drawing shortens a statement.
func TestStatementsAreNamed(t *testing.T) {
	for statement, want := range map[string]string{
		"BEGIN":                                  "BEGIN",
		`INSERT INTO "orders" ("id") VALUES (?)`: "INSERT INTO orders",
		"INSERT INTO customer_totals AS total (subscriber) SELECT": "INSERT INTO customer_totals",
		"WITH taken AS (\nUPDATE subscriber_lanes SET stream = ?7 RETURNING 1), recorded AS (\n\tINSERT INTO inbox (subscriber)\n\tSELECT ?0 FROM taken) SELECT 1": "INSERT INTO inbox",
		"WITH a AS (SELECT 1) SELECT * FROM a": "WITH a",
	} {
		require.Equal(t, want, beginning(statement))
	}
}
