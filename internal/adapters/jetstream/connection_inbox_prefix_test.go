package jetstream_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
)

// TestInboxPrefix checks the subjects on which answers arrive. By default they begin with _INBOX and the user's name, so that
// permissions for _INBOX.> cover them.
func TestInboxPrefix(t *testing.T) {
	for _, test := range []struct{ prefix, url, want string }{
		{"", "nats://relay:secret@127.0.0.1:1", "_INBOX.relay."},
		{"", "nats://relay:secret@127.0.0.1:1,nats://api:secret@127.0.0.1:2", "_INBOX.relay."},
		{"mine.alone", "nats://relay:secret@127.0.0.1:1", "mine.alone."},
		{"", "nats://127.0.0.1:1", "_INBOX."},
		{"", "nats://s3cr3t-token@127.0.0.1:1", "_INBOX."},
		{"", "nats://a.b:secret@127.0.0.1:1", "_INBOX."},
	} {
		nc, err := jetstream.Connect(jetstream.Options{URL: test.url, InboxPrefix: test.prefix, Logger: silent})
		require.NoError(t, err)
		inbox := nc.NewInbox()
		nc.Close()
		require.Regexp(t, "^"+test.want+`[^.]+$`, inbox, test.url)
	}
}

func TestOpenToAll(t *testing.T) {
	require.True(t, jetstream.OpenToAll(jetstream.Options{}, false, "192.0.2.7:4222"))
	require.False(t, jetstream.OpenToAll(jetstream.Options{}, true, "192.0.2.7:4222"), "it asks for a user")
	require.False(t, jetstream.OpenToAll(jetstream.Options{Cert: "client.pem"}, false, "192.0.2.7:4222"), "it asks for a certificate")
	require.False(t, jetstream.OpenToAll(jetstream.Options{}, false, "127.0.0.1:4222"))
	require.False(t, jetstream.OpenToAll(jetstream.Options{}, false, "[::1]:4222"))
	require.False(t, jetstream.OpenToAll(jetstream.Options{}, false, ""))
}
