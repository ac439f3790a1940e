package outbox_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

func valid() outbox.Message {
	return outbox.Message{
		ID: "018f5e4c-0000-7000-8000-000000000001", Type: "outboxie.order.created.v1", Subject: "orders.created",
		Key: outbox.Key{Type: "order", ID: "7"}, Version: 1, Payload: []byte(`{"a": 1}`),
	}
}

// TestValidateAccepts checks that Validate accepts every message that the log can keep.
func TestValidateAccepts(t *testing.T) {
	for name, change := range map[string]func(*outbox.Message){
		"an ordinary message":    func(*outbox.Message) {},
		"headers of the writer":  func(m *outbox.Message) { m.Headers = map[string]string{"traceparent": "00-1", "X-Tenant": "a:b c"} },
		"the actor":              func(m *outbox.Message) { m.Headers = map[string]string{"ce-authtype": "app_user", "ce-authid": "7"} },
		"an empty header":        func(m *outbox.Message) { m.Headers = map[string]string{"tracestate": ""} },
		"any JSON value":         func(m *outbox.Message) { m.Payload = []byte("null") },
		"space around the JSON":  func(m *outbox.Message) { m.Payload = []byte("\n {} \t") },
		"letters of all nations": func(m *outbox.Message) { m.Payload = []byte(`"é世"`); m.Key.ID = "é" },
		"a high version":         func(m *outbox.Message) { m.Version = 1 << 60 },
	} {
		message := valid()
		change(&message)
		require.NoError(t, message.Validate(), name)
	}
}

// TestValidateRefuses checks that Validate refuses each kind of invalid message, and names the reason.
func TestValidateRefuses(t *testing.T) {
	header := func(name, value string) func(*outbox.Message) {
		return func(m *outbox.Message) { m.Headers = map[string]string{"fine": "too", name: value} }
	}
	for _, refused := range []struct {
		says   string
		change func(*outbox.Message)
	}{
		{"without an id", func(m *outbox.Message) { m.ID = "" }},
		{"without a type", func(m *outbox.Message) { m.Type = "" }},
		{"without a subject", func(m *outbox.Message) { m.Subject = "" }},
		{"without an aggregate", func(m *outbox.Message) { m.Key.Type = "" }},
		{"without an aggregate", func(m *outbox.Message) { m.Key.ID = "" }},
		{"is not text", func(m *outbox.Message) { m.ID = "\xff" }},
		{"is not text", func(m *outbox.Message) { m.Type = "a\x00" }},
		{"is not text", func(m *outbox.Message) { m.Subject = "orders.\xff" }},
		{"is not text", func(m *outbox.Message) { m.Key.Type = "\x00" }},
		{"is not text", func(m *outbox.Message) { m.Key.ID = "7\x00" }},
		{"version 0", func(m *outbox.Message) { m.Version = 0 }},
		{"version -1", func(m *outbox.Message) { m.Version = -1 }},
		{"not JSON", func(m *outbox.Message) { m.Payload = nil }},
		{"not JSON", func(m *outbox.Message) { m.Payload = []byte(`{"a":1} x`) }},
		{"not JSON in UTF-8", func(m *outbox.Message) { m.Payload = []byte("\"\xff\"") }},
		{"cannot be sent", header("", "x")},
		{"cannot be sent", header("two words", "x")},
		{"cannot be sent", header("a:b", "x")},
		{"cannot be sent", header("a\nb", "x")},
		{"cannot be sent", header("a", "x\r\nNats-Msg-Id: 1")},
		{"cannot be sent", header("a", "x\x00")},
		{"cannot be sent", header("a\x00", "x")},
		{"cannot be sent", header("a", "\xff")},
		{"reserved", header("Nats-Msg-Id", "1")},
		{"reserved", header("nats-expected-last-sequence", "1")},
		{"reserved", header("NATS-Rollup", "all")},
		{"reserved", header("ce-id", "1")},
		{"reserved", header("Ce-Type", "x")},
		{"reserved", header("Ce-Authtype", "app_user")},
		{"reserved", header("ce-authclaims", "x")},
		{"reserved", header("Outbox-Position", "1")},
		{"reserved", header("outbox-anything", "1")},
		{"reserved", header("Content-Type", "text/plain")},
	} {
		message := valid()
		refused.change(&message)
		err := message.Validate()
		require.ErrorIs(t, err, outbox.ErrInvalidMessage, refused.says)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.ErrorContains(t, err, refused.says)
	}
}

// TestProgressOfAnEntry checks the progress and the key of an entry.
func TestProgressOfAnEntry(t *testing.T) {
	entry := outbox.Entry{Message: valid(), Position: 42}
	require.Equal(t, outbox.Progress{Position: 42, EventID: entry.ID}, entry.Progress())
	require.Equal(t, "order/7", entry.Key.String())
}

// TestSchemaOfAType checks that the URI of a schema follows from the type, is absolute, and names a type with any characters.
func TestSchemaOfAType(t *testing.T) {
	for kind, want := range map[string]string{
		"":                          "",
		"outboxie.order.created.v1": "urn:outboxie:schema:outboxie.order.created.v1",
		"a b#c?d%é":                 "urn:outboxie:schema:a%20b%23c%3Fd%25%C3%A9",
	} {
		message := valid()
		message.Type = kind
		require.Equal(t, want, message.Schema())
		parsed, err := url.Parse(want)
		require.NoError(t, err)
		require.Equal(t, kind != "", parsed.IsAbs())
		require.Empty(t, parsed.Fragment+parsed.RawQuery)
	}
}
