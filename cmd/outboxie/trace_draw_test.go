package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
)

// TestHostileTraces checks that a drawing has no control characters, whatever the names of spans and instances are.
func TestHostileTraces(t *testing.T) {
	for _, text := range hostile {
		var out bytes.Buffer
		span := jaeger.Span{ID: "1", TraceID: "1", Name: text, Instance: text, Start: time.Unix(0, 0)}
		require.NoError(t, drawTrace(&out, jaeger.Trace{ID: "1", Spans: []jaeger.Span{span}}, nil, text))
		requireHarmless(t, out.String(), 4)
	}
}

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
