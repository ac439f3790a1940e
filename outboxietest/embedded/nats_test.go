package embedded_test

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

func natsOptions(t *testing.T) embedded.NATSOptions {
	return embedded.NATSOptions{StoreDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
}

func startNATS(t *testing.T, opts embedded.NATSOptions) *embedded.NATS {
	t.Helper()
	server, err := embedded.StartNATS(opts)
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	return server
}

func dial(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	connection, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	js, err := jetstream.New(connection)
	require.NoError(t, err)
	return js
}

// TestNATSKeepsItsStreams checks that streams survive a restart of the server.
func TestNATSKeepsItsStreams(t *testing.T) {
	t.Parallel()
	opts := natsOptions(t)
	first := startNATS(t, opts)
	js := dial(t, first.URL())
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", []byte("kept"))
	require.NoError(t, err)
	first.Stop()
	first.Stop()

	opts.Port = first.Port()
	second := startNATS(t, opts)
	require.Equal(t, first.URL(), second.URL())
	stream, err := dial(t, second.URL()).Stream(t.Context(), "S")
	require.NoError(t, err)
	message, err := stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "kept", string(message.Data))
}

// TestNATSRefusesLargerMessagesThanAllowed checks that the client library and the server refuse messages above the limit.
func TestNATSRefusesLargerMessagesThanAllowed(t *testing.T) {
	t.Parallel()
	opts := natsOptions(t)
	opts.MaxPayload = 1024
	opts.Open = true
	server := startNATS(t, opts)
	js := dial(t, server.URL())
	require.EqualValues(t, 1024, js.Conn().MaxPayload())
	require.ErrorIs(t, js.Conn().Publish("s", bytes.Repeat([]byte("x"), 1025)), nats.ErrMaxPayload)

	// The library sends no such message, so the test writes one by hand.
	connection, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port())))
	require.NoError(t, err)
	defer connection.Close()
	require.NoError(t, connection.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = fmt.Fprintf(connection, "CONNECT {}\r\nPUB s 1024\r\n%1024s\r\nPING\r\n", "")
	require.NoError(t, err)
	answers := bufio.NewReader(connection)
	for _, want := range []string{"INFO ", "+OK", "+OK", "PONG"} {
		line, err := answers.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, want)
	}
	_, err = fmt.Fprint(connection, "PUB s 1025\r\n")
	require.NoError(t, err)
	line, err := answers.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "Maximum Payload Violation")
}

// TestNATSSaysWhyItDoesNotStart checks that a server that cannot start returns the reason.
func TestNATSSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	opts := natsOptions(t)
	opts.Port = occupied(t)
	_, err := embedded.StartNATS(opts)
	require.ErrorContains(t, err, "port "+strconv.Itoa(opts.Port))

	used := natsOptions(t)
	startNATS(t, used)
	_, err = embedded.StartNATS(used)
	require.ErrorContains(t, err, used.StoreDir)
	require.ErrorContains(t, err, "in use")

	_, err = embedded.StartNATS(embedded.NATSOptions{})
	require.ErrorContains(t, err, "folder")
}

// TestNATSTellsItsTroublesOnly checks that a server that starts and stops without trouble logs nothing.
func TestNATSTellsItsTroublesOnly(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	opts := natsOptions(t)
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	startNATS(t, opts).Stop()
	require.Empty(t, log.String())
}

func requireNATSRefuses(t *testing.T, url string) {
	t.Helper()
	_, err := nats.Connect(url)
	require.ErrorIs(t, err, nats.ErrAuthorization, url)
}
