package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// startOld starts a NATS that is too old for the relay on the same store and port. It returns when the server listens.
func (b *broker) startOld(program string) error {
	file, err := os.OpenFile(filepath.Join(b.folder, "nats.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, _ = fmt.Fprintf(file, "--- %s an older one starts\n", time.Now().Format(time.StampMilli))
	b.cmd = exec.Command(program, "--jetstream", "--store_dir", b.store, "--addr", "127.0.0.1", "--port", strconv.Itoa(b.port))
	b.cmd.Stdout, b.cmd.Stderr = file, file
	if err := b.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(waitTimeout); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.port))
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			b.kill()
			return fmt.Errorf("the older NATS did not start (%w): see %s", err, file.Name())
		}
	}
}

// rollBackVersion replaces NATS by an older version, into which the relay publishes nothing.
func (in *injector) rollBackVersion(t *testing.T) (end func()) {
	t.Helper()
	in.broker.kill()
	require.NoError(t, in.broker.startOld(in.oldNATS))
	return func() {
		in.broker.kill()
		require.NoError(t, in.broker.start())
	}
}

// changes are changes of the stream's settings. The relay corrects some of them itself, and halts for the others until they are repaired. There
// is no subject transform in the list. It stores events under other subjects until the relay notices, and an operator would have to publish
// these events again.
var changes = []struct {
	name   string
	change func(c *jetstream.StreamConfig)
}{
	{"no_ack", func(c *jetstream.StreamConfig) { c.NoAck = true }},
	{"allow_direct off", func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
	{"allow_atomic off", func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }},
	{"other subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"outboxie.ORDERS.notices", "vouchers.>"} }},
	{"discard_new_per_subject", func(c *jetstream.StreamConfig) {
		c.DiscardNewPerSubject, c.Discard, c.MaxMsgsPerSubject = true, jetstream.DiscardNew, 1_000_000
	}},
}

// changeStream changes the stream's settings, and repairs them in the end.
func (in *injector) changeStream(t *testing.T, f fault) (end func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	js, err := jetstream.New(in.nc)
	require.NoError(t, err)
	chosen := int(f.number % uint64(len(changes)))
	update := func(ctx context.Context, change func(*jetstream.StreamConfig)) error {
		stream, err := js.Stream(ctx, "ORDERS")
		if err != nil {
			return err
		}
		config := stream.CachedInfo().Config
		change(&config)
		_, err = js.UpdateStream(ctx, config)
		return err
	}
	in.note("%s: %v", changes[chosen].name, update(ctx, changes[chosen].change))
	return func() {
		repaired := func(c *jetstream.StreamConfig) {
			c.AllowDirect = true
			c.NoAck, c.DiscardNewPerSubject, c.Discard, c.MaxMsgsPerSubject = false, false, jetstream.DiscardOld, -1
		}
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
			defer cancel()
			err := update(ctx, repaired)
			if err != nil {
				in.note("cannot repair the stream's settings yet: %v", err)
			}
			return err == nil || errors.Is(err, jetstream.ErrStreamNotFound) // then the relay creates it again with its own settings
		}, waitTimeout, 200*time.Millisecond)
	}
}
