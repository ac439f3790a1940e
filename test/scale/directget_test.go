//go:build scale

package scale_test

import (
	"context"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// replicaReads records what all readers have seen of the stream.
type replicaReads struct {
	mu     sync.Mutex
	stored map[uint64]time.Time // by sequence
	acked  uint64
	lagged int // reads that did not show what had been acknowledged before
	most   uint64
	reads  int
}

// TestReplicasShowAPrefix checks that each direct read of a growing stream shows every message from its beginning to its end, with the same
// stored times, although any replica may answer and replicas lag, freeze, die and restart.
func TestReplicasShowAPrefix(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	quiet := slog.New(slog.DiscardHandler)
	connect := func(url string) *jetstream.Publisher {
		nc, err := jetstream.Connect(jetstream.Options{URL: url, Name: t.Name(), Logger: quiet})
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: "ORDERS", Subjects: "orders.>", Source: "/outboxie/orders", Replicas: 3, Logger: quiet})
		require.NoError(t, err)
		return publisher
	}
	publisher := connect(cluster.url())
	_, err := publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	cluster.whole()

	running, stop := context.WithCancel(t.Context())
	defer stop()
	seen := &replicaReads{stored: make(map[uint64]time.Time)}
	var working sync.WaitGroup
	working.Go(func() { seen.publish(running, publisher) })
	for _, url := range cluster.urls {
		nc, err := jetstream.Connect(jetstream.Options{URL: url, Name: t.Name(), Logger: quiet})
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		reader, err := jetstream.NewReader(nc, jetstream.ReaderOptions{Stream: "ORDERS", Subjects: "orders.>", Subscriber: "reader", Logger: quiet})
		require.NoError(t, err)
		t.Cleanup(reader.Close)
		working.Go(func() { seen.read(running, t, reader) })
	}
	for _, node := range cluster.nodes {
		cluster.more(200)
		node.Signal(syscall.SIGSTOP)
		cluster.more(200)
		node.Signal(syscall.SIGCONT)
		cluster.more(200)
		node.Kill()
		cluster.more(200)
		node.Start()
		cluster.whole()
	}
	stop()
	working.Wait()
	t.Logf("%d messages, %d reads, %d of a replica that lagged, by %d messages at most", seen.acked, seen.reads, seen.lagged, seen.most)
	require.Positive(t, seen.reads)
}

// publish appends small batches until ctx ends.
func (r *replicaReads) publish(ctx context.Context, publisher *jetstream.Publisher) {
	tail := uint64(0)
	for ctx.Err() == nil {
		entries := relaytest.NewEntries(outbox.Position(tail), 10) //nolint:gosec // small
		for i := range entries {
			entries[i].Subject = "orders.created"
		}
		last, err := publisher.Publish(ctx, tail, entries)
		if err != nil {
			info, err := publisher.Open(ctx, 0)
			if err == nil {
				last = info.LastSequence
			}
			time.Sleep(50 * time.Millisecond)
		}
		tail = max(tail, last)
		r.mu.Lock()
		r.acked = max(r.acked, last)
		r.mu.Unlock()
	}
}

// read reads the growing stream as a subscriber does: each read begins with the last message of the read before.
func (r *replicaReads) read(ctx context.Context, t *testing.T, reader *jetstream.Reader) {
	place := inbox.StreamPosition{}
	for ctx.Err() == nil {
		r.mu.Lock()
		acked := r.acked
		r.mu.Unlock()
		messages, err := reader.Read(ctx, max(place.Sequence, 1), inbox.ReadLimit{Count: 500, Bytes: 1 << 20})
		if err != nil {
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("read: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
			continue
		}
		r.mu.Lock()
		r.reads++
		next := max(place.Sequence, 1)
		for _, message := range messages {
			if message.Sequence != next {
				t.Errorf("message %d comes where %d was due", message.Sequence, next)
			}
			if at, known := r.stored[message.Sequence]; known && !at.Equal(message.StoredAt) {
				t.Errorf("message %d was stored at %s and at %s", message.Sequence, at, message.StoredAt)
			}
			r.stored[message.Sequence] = message.StoredAt
			next, place = message.Sequence+1, message.StreamPosition
		}
		if len(messages) < 500 && next <= acked {
			r.lagged++
			r.most = max(r.most, acked+1-next)
		}
		r.mu.Unlock()
	}
}
