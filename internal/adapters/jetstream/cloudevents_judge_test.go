package jetstream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/contract"
)

// messages reads the whole stream as any program does that does not know the engine.
func (b *broker) messages() (found []natsjs.Msg) {
	b.t.Helper()
	consumer, err := b.admin.OrderedConsumer(b.t.Context(), stream, natsjs.OrderedConsumerConfig{})
	require.NoError(b.t, err)
	batch, err := consumer.Fetch(int(b.info().State.Msgs), natsjs.FetchMaxWait(patience)) //nolint:gosec // a few messages
	require.NoError(b.t, err)
	for message := range batch.Messages() {
		found = append(found, message)
	}
	require.NoError(b.t, batch.Error())
	return found
}

// TestCloudEventsSDKReadsTheStream checks that the SDK of CloudEvents reads each published message as a valid event with the attributes and
// the data of the entry: a lone message, a batch, a redriven event, and texts that have to be encoded in headers.
func TestCloudEventsSDKReadsTheStream(t *testing.T) {
	b := newBroker(t)
	entries := relaytest.NewEntries(0, 10)
	entries[0].Type, entries[0].Key.ID = `shop "é" 100%.v1`, "a b%20"
	entries[1].Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	publisher := b.opened()
	last, err := publisher.Publish(t.Context(), 0, entries[:1])
	require.NoError(t, err)
	last, err = publisher.Publish(t.Context(), last, entries[1:])
	require.NoError(t, err)
	_, err = publisher.Redrive(t.Context(), last, entries[9].Progress(), entries[:1])
	require.NoError(t, err)

	messages := b.messages()
	require.Len(t, messages, 11)
	for i, message := range messages {
		entry := entries[i%10]
		read, err := contract.CloudEvent(message.Headers(), message.Data())
		require.NoError(t, err, "%v", message.Headers())
		require.Equal(t, "1.0", read.SpecVersion())
		require.Equal(t, entry.ID, read.ID())
		require.Equal(t, entry.Type, read.Type())
		require.Equal(t, source, read.Source())
		require.Equal(t, entry.Key.ID, read.Subject())
		require.Equal(t, entry.RecordedAt, read.Time().UTC())
		require.Equal(t, "application/json", read.DataContentType())
		require.Equal(t, entry.Schema(), read.DataSchema())
		require.Equal(t, entry.Payload, read.Data())
		require.Empty(t, read.Extensions(), "what the engine adds has no name of CloudEvents")
	}
}

// TestCloudEventsSDKNoticesFaults checks that the SDK notices each kind of broken message, so that its consent means something.
func TestCloudEventsSDKNoticesFaults(t *testing.T) {
	r := newReading(t)
	r.Append(t, relaytest.NewEntries(0, 1)...)
	message := r.messages()[0]
	for _, fault := range [][2]string{
		{"ce-specversion", ""},
		{"ce-specversion", "7"},
		{"ce-id", ""},
		{"ce-type", " "},
		{"ce-source", ""},
		{"ce-time", "yesterday"},
		{"ce-datacontenttype", "application/"},
		{"ce-dataschema", "orders/created"},
		{"ce-no_name", "x"},
	} {
		broken := nats.Header{}
		for name, values := range message.Headers() {
			broken[name] = values
		}
		broken.Set(fault[0], fault[1])
		_, err := contract.CloudEvent(broken, message.Data())
		require.Error(t, err, "%q", fault)
	}
	without := nats.Header{"Outbox-Position": {"1"}}
	_, err := contract.CloudEvent(without, message.Data())
	require.Error(t, err)
}

// TestMessagesOfOlderPrograms checks that a message as Outboxie 0.1.0 wrote it, without ce-datacontenttype and ce-dataschema, is still read as
// the same event, that the publisher finds it at the end of the stream as its own, and goes on behind it.
func TestMessagesOfOlderPrograms(t *testing.T) {
	r := newReading(t)
	entries := relaytest.NewEntries(0, 2)
	old := nats.NewMsg(entries[0].Subject)
	old.Data = entries[0].Payload
	for name, value := range map[string]string{
		"ce-specversion": "1.0", "ce-id": entries[0].ID, "ce-type": entries[0].Type, "ce-source": "/outboxie/orders",
		"ce-subject": entries[0].Key.ID, "ce-time": entries[0].RecordedAt.Format(time.RFC3339Nano), "content-type": "application/json",
		"Outbox-Aggregate-Type": entries[0].Key.Type, "Outbox-Aggregate-Version": "1", "Outbox-Position": "1",
	} {
		old.Header[name] = []string{value}
	}
	for name, value := range entries[0].Headers {
		old.Header[name] = []string{value}
	}
	_, err := r.admin.PublishMsg(t.Context(), old)
	require.NoError(t, err)

	fresh := r.opened()
	info, err := fresh.Open(t.Context(), 1)
	require.NoError(t, err)
	require.EqualValues(t, 1, info.LastSequence)
	meta, err := fresh.At(t.Context(), 1)
	require.NoError(t, err)
	require.True(t, meta.Own)
	require.Equal(t, entries[0].Progress(), meta.Progress)
	_, err = fresh.Publish(t.Context(), 1, entries[1:])
	require.NoError(t, err)
	require.Equal(t, entries, r.Stored(t))
	read, err := r.reader(t).Read(t.Context(), 1, everything)
	require.NoError(t, err)
	require.Len(t, read, 2)
	require.Equal(t, entries, []outbox.Entry{read[0].Event.Entry, read[1].Event.Entry})
	event, err := contract.CloudEvent(old.Header, old.Data)
	require.NoError(t, err, "without the two attributes the message is a valid event, too")
	require.Empty(t, event.DataSchema())
}
