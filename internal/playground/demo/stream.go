package demo

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

const streamName = "ORDERS"

// follower reads the stream as it grows, and remembers when the broker stored each message.
type follower struct {
	js   jetstream.JetStream
	stop func()

	mu     sync.Mutex
	stored []time.Time
}

// readStream follows the stream from its first message until stop.
func readStream(ctx context.Context, broker string) (*follower, error) {
	nc, err := nats.Connect(broker)
	if err != nil {
		return nil, err
	}
	f := &follower{stop: nc.Close}
	if f.js, err = jetstream.New(nc); err == nil {
		err = f.consume(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return f, nil
}

// consume waits for the stream, and starts to read it. The first leader makes the stream.
func (f *follower) consume(ctx context.Context) error {
	var consumer jetstream.Consumer
	err := processes.Await(ctx, 20*time.Millisecond, func() (bool, error) {
		var err error
		consumer, err = f.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{HeadersOnly: true})
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return err
	}
	_, err = consumer.Consume(func(message jetstream.Msg) {
		meta, err := message.Metadata()
		if err != nil {
			return // cannot happen: every message of a stream has metadata
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stored = append(f.stored, meta.Timestamp)
	})
	return err
}

// count returns the number of messages so far.
func (f *follower) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.stored)
}

// longest returns the longest time between two successive messages. The second of the two is not among the first n messages.
func (f *follower) longest(n int) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var longest time.Duration
	for i := max(n, 1); i < len(f.stored); i++ {
		longest = max(longest, f.stored[i].Sub(f.stored[i-1]))
	}
	return longest
}
