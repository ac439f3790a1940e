package jetstream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// TestHeadersRoundTrip checks that a subscriber reads every valid entry as the log holds it, and that the message has the
// computed size.
func TestHeadersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(1, 20, -1)
		entry := outbox.Entry{
			Position:   outbox.Position(rapid.Int64Min(1).Draw(t, "position")),
			RecordedAt: time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "recorded")).UTC(),
			Message: outbox.Message{
				ID: text.Draw(t, "id"), Type: text.Draw(t, "type"), Subject: "orders.created",
				Key:     outbox.Key{Type: text.Draw(t, "aggregate type"), ID: text.Draw(t, "aggregate id")},
				Version: rapid.Int64Min(1).Draw(t, "version"),
				Headers: rapid.MapOfN(rapid.StringMatching(`X-[A-Za-z0-9!#$%&'*+.^_|~-]{1,9}`),
					rapid.StringMatching(`([!-~ü]([ -~ü]{0,9}[!-~ü])?)?`), 0, 4).Draw(t, "headers"),
				Payload: []byte(`{}`),
			},
		}
		if len(entry.Headers) == 0 {
			entry.Headers = nil
		}
		message, size := jetstream.Encode(entry)
		require.Equal(t, message.Size(), len(message.Subject)+size+len(message.Data))
		read, err := jetstream.Decode(message.Subject, message.Header, message.Data)
		require.NoError(t, err)
		require.Equal(t, entry, read)

		at := outbox.Progress{
			Position: outbox.Position(rapid.Int64Min(0).Draw(t, "progress")), EventID: rapid.StringN(0, 20, -1).Draw(t, "progress id"),
		}
		message, size = jetstream.EncodeRedriven(entry, at)
		require.Equal(t, message.Size(), len(message.Subject)+size+len(message.Data))
		require.Equal(t, relay.MessageMeta{Own: true, Progress: at, Event: entry.Position, Redriven: true}, jetstream.MetaOf(message.Header))
		read, err = jetstream.Decode(message.Subject, message.Header, message.Data)
		require.NoError(t, err)
		require.Equal(t, entry, read, "a redriven event is read as any other")
	})
}

func TestIncompleteHeadersAreUnreadable(t *testing.T) {
	entry := relaytest.NewEntries(0, 1)[0]
	for _, name := range []string{
		"ce-id", "ce-type", "ce-subject", "ce-time", "Outbox-Aggregate-Type", "Outbox-Aggregate-Version", "Outbox-Position",
	} {
		for _, value := range []string{"", "%zz", "-1"} {
			message, _ := jetstream.Encode(entry)
			message.Header.Set(name, value)
			_, err := jetstream.Decode(message.Subject, message.Header, message.Data)
			if value == "-1" && name != "ce-time" && name != "Outbox-Aggregate-Version" && name != "Outbox-Position" {
				require.NoError(t, err, "%s: %s", name, value)
				continue
			}
			require.ErrorIs(t, err, inbox.ErrUnreadable, "%s: %s", name, value)
		}
	}
	_, err := jetstream.Decode("orders.created", nats.Header{}, nil)
	require.ErrorIs(t, err, inbox.ErrUnreadable)
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		covers           bool
	}{
		{"orders.>", "orders.created", true},
		{"orders.>", "orders.created.eu", true},
		{"orders.>", "orders", false},
		{"orders.>", "orders.*", true},
		{"orders.>", "orders.>", true},
		{"orders.*", "orders.created", true},
		{"orders.*", "orders.created.eu", false},
		{"orders.*", "orders.>", false},
		{"orders.*.eu", "orders.created.eu", true},
		{"orders.*.eu", "orders.created.us", false},
		{"orders.created", "orders.created", true},
		{"orders.created", "orders.*", false},
		{"orders.created", "orders.created.eu", false},
		{"orders.created.eu", "orders.created", false},
		{">", "anything", true},
		{"*", "anything", true},
		{"*", ">", false},
	} {
		require.Equal(t, c.covers, jetstream.Covers(c.pattern, c.subject), "%s %s", c.pattern, c.subject)
	}
}
