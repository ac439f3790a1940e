package orderstest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func appending(messages ...outbox.Message) work {
	return func(ctx context.Context, tx orders.Tx) error { return tx.Outbox.Append(ctx, messages...) }
}

func appendContent(t *testing.T, h Harness) {
	payloads := []string{
		"{ \"b\" : 1.50,\r\n\t\"a\":\"'quoted' \\\\ ? ?0 ?TableName $1 -- /* */\", \"a\": [] }\n",
		`"é \u00e9 \u0000 \ud83d\ude00 😀 ` + "\u2028\u202e" + ` <&>"`,
		`[123456789012345678901234567890.10, 1e400, -0.0, 1E-7]`,
		"\t null ", `0`, `""`, `"\\x00 \\' \\\\"`, `"'); DROP TABLE outbox; --"`,
		`"` + strings.Repeat("ü", 1<<19) + `"`,
	}
	var messages []outbox.Message
	for i, payload := range payloads {
		message := relaytest.NewMessage(fmt.Sprintf("it's %q ?0 ü %d", `\`, i), 1<<62)
		message.Payload = []byte(payload)
		messages = append(messages, message)
	}
	messages[0].Headers = map[string]string{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"tracestate":  "a=1,b=2", "it's": `"?" \ 'Zürich' 😀 <&>`, "empty": "",
	}
	messages[1].Key.Type = "ship ment's ?"
	before := time.Now().Add(-time.Minute)
	do(t, h, appending(messages...))

	entries := h.Entries(t)
	require.Len(t, entries, len(messages))
	for i, entry := range entries {
		require.Equal(t, payloads[i], string(entry.Payload))
		require.Equal(t, messages[i], entry.Message)
		require.WithinRange(t, entry.RecordedAt, before, time.Now().Add(time.Minute))
	}
}

func appendOrder(t *testing.T, h Harness) {
	var want []string
	add := func(n int) []outbox.Message {
		var messages []outbox.Message
		for range n {
			message := relaytest.NewMessage(fmt.Sprintf("order-%d", len(want)%7), int64(len(want)/7)+1)
			want = append(want, message.ID)
			messages = append(messages, message)
		}
		return messages
	}
	do(t, h, appending())
	for _, n := range []int{1, 2, 500} {
		do(t, h, appending(add(n)...))
	}
	first, second := add(3), add(4)
	do(t, h, func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, tx.Outbox.Append(ctx, first...))
		require.NoError(t, tx.Outbox.Append(ctx))
		return tx.Outbox.Append(ctx, second...)
	})
	var got []string
	last := outbox.Position(0)
	for _, entry := range h.Entries(t) {
		require.Greater(t, entry.Position, last)
		last = entry.Position
		got = append(got, entry.ID)
	}
	require.Equal(t, want, got)
}

// appendInvalid checks that a refused call appends nothing, and that the transaction can go on.
func appendInvalid(t *testing.T, h Harness) {
	for _, invalid := range []struct {
		name  string
		spoil func(*outbox.Message)
	}{
		{"no id", func(m *outbox.Message) { m.ID = "" }},
		{"no type", func(m *outbox.Message) { m.Type = "" }},
		{"no subject", func(m *outbox.Message) { m.Subject = "" }},
		{"no aggregate", func(m *outbox.Message) { m.Key = outbox.Key{} }},
		{"version 0", func(m *outbox.Message) { m.Version = 0 }},
		{"no payload", func(m *outbox.Message) { m.Payload = nil }},
		{"payload not JSON", func(m *outbox.Message) { m.Payload = []byte("{") }},
		{"payload not UTF-8", func(m *outbox.Message) { m.Payload = []byte("\"\xff\"") }},
		{"id with a NUL", func(m *outbox.Message) { m.Key.ID = "a\x00" }},
		{"type not UTF-8", func(m *outbox.Message) { m.Type = "\xff" }},
		{"header with a NUL", func(m *outbox.Message) { m.Headers = map[string]string{"a": "\x00"} }},
		{"header not UTF-8", func(m *outbox.Message) { m.Headers = map[string]string{"a": "\xff"} }},
		{"Nats-Msg-Id", func(m *outbox.Message) { m.Headers = map[string]string{"Nats-Msg-Id": "1"} }},
		{"reserved, lower", func(m *outbox.Message) { m.Headers = map[string]string{"nats-expected-stream": "1"} }},
		{"ce-id", func(m *outbox.Message) { m.Headers = map[string]string{"CE-id": "1"} }},
		{"Outbox-Position", func(m *outbox.Message) { m.Headers = map[string]string{"Outbox-Position": "1"} }},
		{"content-type", func(m *outbox.Message) { m.Headers = map[string]string{"Content-Type": "text/plain"} }},
		{"line break", func(m *outbox.Message) { m.Headers = map[string]string{"a": "b\r\nNats-Msg-Id: 1"} }},
	} {
		good, bad := relaytest.NewMessage("a", 1), relaytest.NewMessage("a", 2)
		invalid.spoil(&bad)
		do(t, h, func(ctx context.Context, tx orders.Tx) error {
			err := tx.Outbox.Append(ctx, good, bad)
			require.ErrorIs(t, err, outbox.ErrInvalidMessage, invalid.name)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			return nil
		})
		require.Empty(t, h.Entries(t), invalid.name)
	}
	do(t, h, appending(relaytest.NewMessage("a", 1)))
}

func appendVersionTaken(t *testing.T, h Harness) {
	first := relaytest.NewMessage("a", 1)
	do(t, h, appending(first))
	for _, batch := range [][]outbox.Message{
		{relaytest.NewMessage("a", 1)},
		{relaytest.NewMessage("a", 2), relaytest.NewMessage("a", 1)},
		{relaytest.NewMessage("a", 2), relaytest.NewMessage("a", 2)},
	} {
		err := h.UnitOfWork().Do(t.Context(), appending(batch...))
		require.ErrorIs(t, err, relay.ErrVersionTaken)
		entries := h.Entries(t)
		require.Len(t, entries, 1)
		require.Equal(t, first.ID, entries[0].ID)
	}
	do(t, h, appending(relaytest.NewMessage("a", 2), relaytest.NewMessage("b", 1)))
}

// appendPositionTaken checks that a writer gets ErrSequenceBehind, not ErrVersionTaken, if the sequence went back. The messages of the writer
// are correct.
func appendPositionTaken(t *testing.T, h Harness) {
	do(t, h, appending(relaytest.NewMessage("a", 1), relaytest.NewMessage("a", 2)))
	before := h.Entries(t)
	for _, position := range []outbox.Position{0, 1} {
		h.SetSequence(t, position)
		err := h.UnitOfWork().Do(t.Context(), appending(relaytest.NewMessage("b", 1)))
		require.ErrorIs(t, err, relay.ErrSequenceBehind)
		require.NotErrorIs(t, err, relay.ErrVersionTaken)
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
	}
	err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		h.SetSequence(t, 1)
		_ = tx.Outbox.Append(ctx, relaytest.NewMessage("b", 1))
		return nil
	})
	require.Error(t, err, "it cannot be committed")
	require.Equal(t, before, h.Entries(t))
	h.SetSequence(t, 2)
	do(t, h, appending(relaytest.NewMessage("b", 1)))
}
