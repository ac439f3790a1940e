package jetstream_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func requireOutage(t *testing.T, err error) {
	t.Helper()
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
}

func requireRefused(t *testing.T, err error) {
	t.Helper()
	var refused *relay.RefusedError
	require.ErrorAs(t, err, &refused)
}

// proxied is a publisher whose network can be made to misbehave.
func (b *broker) proxied(timeout time.Duration) (*jetstream.Publisher, *proxy) {
	b.t.Helper()
	network := newProxy(b.t, b.server.URL)
	nc, err := jetstream.Connect(jetstream.Options{URL: network.URL, Name: b.t.Name(), Logger: silent})
	require.NoError(b.t, err)
	b.t.Cleanup(nc.Close)
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Timeout: timeout, Logger: silent})
	require.NoError(b.t, err)
	require.Eventually(b.t, func() bool {
		_, err = publisher.Open(b.t.Context(), 1)
		return err == nil
	}, patience, time.Millisecond)
	return publisher, network
}

const pubAck = `"stream":"ORDERS"`

// cutShort publishes entries on a network that swallows some acknowledgements. When the broker has stored the given number of
// messages, cutShort calls end, which must end the wait, and returns the result of Publish.
func (b *broker) cutShort(publisher *jetstream.Publisher, entries int, stored uint64, end func(cancel func())) (uint64, error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	type result struct {
		last uint64
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		last, err := publisher.Publish(ctx, 0, relaytest.NewEntries(0, entries))
		answer <- result{last, err}
	}()
	require.Eventually(b.t, func() bool { return b.info().State.LastSeq == stored }, patience, time.Millisecond)
	end(cancel)
	select {
	case r := <-answer:
		requireOutage(b.t, r.err)
		require.Equal(b.t, stored, b.info().State.LastSeq)
		return r.last, r.err
	case <-time.After(patience):
		require.Fail(b.t, "still waiting for an acknowledgement that was lost")
		return 0, nil
	}
}

func TestLostAckLeavesTheBatchStored(t *testing.T) {
	for _, n := range []int{1, 50} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			b := newBroker(t)
			publisher, network := b.proxied(time.Minute)
			network.MuteAfter(0, "")
			last, err := b.cutShort(publisher, n, uint64(n), func(func()) { network.Cut() })
			require.Zero(t, last)
			require.NotErrorIs(t, err, context.Canceled, "nobody canceled")

			require.Eventually(t, func() bool {
				_, err = publisher.Open(t.Context(), 0)
				return err == nil
			}, patience, time.Millisecond)
			_, err = publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, n))
			require.ErrorIs(t, err, relay.ErrTailMoved)
			require.Len(t, b.Stored(t), n)
		})
	}
}

func TestSlowAcksTellThePrefix(t *testing.T) {
	b := newBroker(t)
	publisher, network := b.proxied(time.Minute)
	network.MuteAfter(3, pubAck)
	last, err := b.cutShort(publisher, 7, 4, func(cancel func()) { cancel() }) // the fifth waits for the fourth's answer
	require.Equal(t, uint64(3), last)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPrefixOfABatchThatIsSentInSteps(t *testing.T) {
	b := newBroker(t)
	publisher, network := b.proxied(time.Minute)
	network.MuteAfter(1, pubAck)
	last, err := b.cutShort(publisher, 1500, 1500, func(cancel func()) { cancel() })
	require.Equal(t, uint64(1000), last)
	require.ErrorIs(t, err, context.Canceled)
}

func TestSilentBrokerIsNotWaitedForForEver(t *testing.T) {
	for _, n := range []int{1, 50} {
		b := newBroker(t)
		publisher, network := b.proxied(200 * time.Millisecond)
		network.MuteAfter(0, "")
		last, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, n))
		requireOutage(t, err)
		require.Zero(t, last)
		_, err = publisher.At(t.Context(), 1)
		requireOutage(t, err)
		_, err = publisher.Open(t.Context(), 1)
		requireOutage(t, err)
	}
}

func TestPublisherStartsWithoutABroker(t *testing.T) {
	b := newBroker(t)
	b.server.Stop()
	publisher := b.publisher(jetstream.PublisherOptions{})
	start := time.Now()
	for _, n := range []int{1, 50} {
		_, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, n))
		requireOutage(t, err)
	}
	_, err := publisher.Open(t.Context(), 1)
	requireOutage(t, err)
	require.Less(t, time.Since(start), 2*time.Second, "nothing waits for a broker that is not there")
	b.Reconnect(t)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	_, err = publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 50))
	require.NoError(t, err)
}

// TestLargestMessage searches the largest payload that the publisher sends, alone and in a batch. The broker stores that
// message, and the publisher refuses one byte more.
func TestLargestMessage(t *testing.T) {
	limits := map[string]struct {
		maxMsgSize int32
		most       int
	}{"max_payload": {0, maxSize}, "max_msg_size": {8 << 10, 8 << 10}}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			publisher := b.publisher(jetstream.PublisherOptions{MaxMsgSize: limit.maxMsgSize})
			_, err := publisher.Open(t.Context(), 1)
			require.NoError(t, err)
			tail := uint64(0)
			for _, before := range []int{0, 20} {
				largest := func(payload int) (uint64, error) {
					entries := relaytest.NewEntries(1000, before+1)
					entries[before].Payload = []byte(strings.Repeat("7", payload))
					return publisher.Publish(t.Context(), tail, entries)
				}
				fits, tooMuch := 0, limit.most
				for tooMuch-fits > 1 {
					middle := (fits + tooMuch) / 2
					last, err := largest(middle)
					tail = last
					if err == nil {
						fits = middle
						continue
					}
					requireRefused(t, err)
					tooMuch = middle
				}
				require.Greater(t, fits, limit.most-1024)
			}
		})
	}
}

func TestLimitLoweredBehindOurBack(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	config := b.info().Config
	config.MaxMsgSize = 2048
	_, err := b.admin.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	entries := relaytest.NewEntries(0, 20)
	entries[2].Payload = []byte(strings.Repeat("7", 4096))

	last, err := publisher.Publish(t.Context(), 0, entries[:5])
	requireRefused(t, err)
	require.Equal(t, uint64(2), last)

	entries[12].Payload = entries[2].Payload
	last, err = publisher.Publish(t.Context(), 2, entries[3:])
	requireOutage(t, err)
	require.Equal(t, uint64(2), last)
	_, err = publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	last, err = publisher.Publish(t.Context(), 2, entries[3:])
	requireRefused(t, err)
	require.Equal(t, uint64(11), last)
}

func TestEntriesThatCanNeverBeSent(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	for name, spoil := range map[string]func(*outbox.Entry){
		"wildcard":        func(e *outbox.Entry) { e.Subject = "things.*" },
		"wildcards":       func(e *outbox.Entry) { e.Subject = "things.>" },
		"empty token":     func(e *outbox.Entry) { e.Subject = "things..created" },
		"no token":        func(e *outbox.Entry) { e.Subject = "orders" },
		"white space":     func(e *outbox.Entry) { e.Subject = "things.cre ated" },
		"line break":      func(e *outbox.Entry) { e.Subject = "things.cre\r\nated" },
		"endless":         func(e *outbox.Entry) { e.Subject = "things." + strings.Repeat("x", 8000) },
		"header name":     func(e *outbox.Entry) { e.Headers = map[string]string{"X(Y": "z"} },
		"endless headers": func(e *outbox.Entry) { e.Headers = map[string]string{"X": strings.Repeat("x", 65400)} },
	} {
		entries := relaytest.NewEntries(0, 12)
		spoil(&entries[0])
		last, err := publisher.Publish(t.Context(), 0, entries)
		require.Zero(t, last, name)
		requireRefused(t, err)
	}
	require.Zero(t, b.info().State.LastSeq)
}

// TestHeadersOnTheWire checks the subject, headers and body of an event's message byte for byte, because other programs rely on
// them.
func TestHeadersOnTheWire(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	entries := relaytest.NewEntries(41, 10)
	entry := &entries[4]
	entry.RecordedAt = time.Date(2026, 11, 23, 13, 5, 7, 120_000_000, time.FixedZone("CET", 3600))
	entry.Headers = map[string]string{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1",
		"Nats-Msg-Id": "stray", "ce-id": "stray", "outbox-position": "7", "Content-Type": "text/plain",
	}
	tail := uint64(0)
	for _, batch := range [][]outbox.Entry{entries[4:5], entries} { // alone and in a batch
		last, err := publisher.Publish(t.Context(), tail, batch)
		require.NoError(t, err)
		sequence := last
		if len(batch) > 1 {
			sequence = tail + 5
		}
		tail = last
		message := b.kept(sequence)
		require.Equal(t, "things.happened", message.Subject)
		require.Equal(t, entry.Payload, message.Data)
		header := map[string]string{}
		for name, values := range message.headers(t) {
			require.Len(t, values, 1)
			if strings.HasPrefix(name, "Nats-") {
				require.Contains(t, []string{
					"Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Expected-Stream", "Nats-Expected-Last-Sequence",
				}, name)
				continue
			}
			header[name] = values[0]
		}
		require.Equal(t, map[string]string{
			"ce-specversion": "1.0", "ce-id": entry.ID, "ce-type": entry.Type, "ce-source": "/outboxie/orders",
			"ce-subject": entry.Key.ID, "ce-time": "2026-11-23T12:05:07.12Z",
			"ce-datacontenttype": "application/json", "content-type": "application/json", "ce-dataschema": "urn:outboxie:schema:" + entry.Type,
			"traceparent": entry.Headers["traceparent"], "tracestate": "a=1",
			"Outbox-Aggregate-Type": "thing", "Outbox-Aggregate-Version": "46", "Outbox-Position": "46",
		}, header)
	}
}

// TestWithoutCompareAndSwapEventsAreDoubled checks that compare-and-swap is needed. If the publisher's messages are sent without
// an expected sequence, the stream stores them twice, one by one and as a batch.
func TestWithoutCompareAndSwapEventsAreDoubled(t *testing.T) {
	b := newBroker(t)
	entries := relaytest.NewEntries(0, 20)
	publisher := b.opened()
	_, err := publisher.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	for _, n := range []int{1, len(entries)} {
		_, err = publisher.Publish(t.Context(), 0, entries[:n])
		require.ErrorIs(t, err, relay.ErrTailMoved)
	}
	require.Len(t, b.Stored(t), len(entries))

	messages := make([]*nats.Msg, len(entries))
	for i, entry := range entries {
		messages[i], _ = jetstream.Encode(entry)
	}
	_, err = b.admin.PublishMsg(t.Context(), messages[0])
	require.NoError(t, err)
	_, err = jetstreamext.PublishMsgBatch(t.Context(), b.admin, messages)
	require.NoError(t, err)
	require.Len(t, b.Stored(t), len(entries)+1+len(entries))
}

func TestPublisherLeavesNothingRunning(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	before := goleak.IgnoreCurrent()
	_, err := publisher.Publish(t.Context(), 0, relaytest.NewEntries(0, 1013))
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = publisher.Publish(ended, 0, relaytest.NewEntries(0, 5))
	require.Error(t, err)
	goleak.VerifyNone(t, before)
}
