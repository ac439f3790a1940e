package infra

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// brokerVariable names a running NATS to use instead of starting one. All its streams are deleted.
const brokerVariable = "OUTBOXIE_TEST_NATS_URL"

// Broker returns the NATS_URL of a broker without a stream. A test that must stop or kill the server calls NATS instead. Until the test
// ends, no other test uses the broker: if the environment names a server, tests take turns.
func Broker(t testing.TB) string {
	t.Helper()
	url := os.Getenv(brokerVariable)
	if url == "" {
		return NATS(t).URL
	}
	takeTurn(t)
	if err := deleteStreams(t.Context(), url); err != nil {
		t.Fatalf("empty the broker that %s names: %v", brokerVariable, err)
	}
	return url
}

// takeTurn waits until no other test of this user has the broker, in this process or in another.
func takeTurn(t testing.TB) {
	t.Helper()
	path := filepath.Join(os.TempDir(), fmt.Sprintf("outboxie-test-broker-%d.lock", os.Getuid()))
	turn, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = turn.Close() }) // the next test gets the broker
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("wait for the broker: %v", err)
	}
}

func deleteStreams(ctx context.Context, url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	streams := js.StreamNames(ctx)
	for name := range streams.Name() {
		if err := js.DeleteStream(ctx, name); err != nil {
			return fmt.Errorf("delete the stream %s: %w", name, err)
		}
	}
	return streams.Err()
}
