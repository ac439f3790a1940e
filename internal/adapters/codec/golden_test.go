package codec_test

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fulfillment"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/test/contract"
)

// golden has a message of every version of every event that was ever published. A file is TYPE/CASE.json. It is a payload byte for byte, so
// it does not end with a line break.
const golden = "testdata/golden"

var changedAt = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

func dataAt(state order.Snapshot) order.EventData {
	return order.EventData{Order: state, At: changedAt}
}

// goldenEvents has the event of each golden file of orders, and whether Encode writes this file today. When a new version of a type is
// published, the files of the old version stay here with written set to false.
var goldenEvents = map[string]struct {
	event   order.Event
	subject string
	version int64
	written bool
}{
	"outboxie.order.created.v1/plain.json": {
		order.Created{EventData: order.EventData{Order: snapshot(order.StatusCreated, 1), At: snapshot("", 1).CreatedAt}}, "orders.created", 1, true,
	},
	"outboxie.order.paid.v1/plain.json":      {order.Paid{EventData: dataAt(snapshot(order.StatusPaid, 2))}, "orders.paid", 2, true},
	"outboxie.order.shipped.v1/plain.json":   {order.Shipped{EventData: dataAt(snapshot(order.StatusShipped, 3))}, "orders.shipped", 3, true},
	"outboxie.order.cancelled.v1/plain.json": {order.Cancelled{EventData: dataAt(snapshot(order.StatusCancelled, 2))}, "orders.cancelled", 2, true},
	"outboxie.order.cancelled.v1/all-notes.json": {
		order.Cancelled{EventData: dataAt(withAllNotes(order.StatusCancelled, 3))}, "orders.cancelled", 3, true,
	},
}

// goldenFulfillments has the status of the event of each golden file of fulfillments. This program does not read these events.
var goldenFulfillments = map[string]fulfillment.Status{
	"outboxie.fulfillment.requested.v1/plain.json": fulfillment.Requested,
	"outboxie.fulfillment.withdrawn.v1/plain.json": fulfillment.Withdrawn,
}

func payloadOf(t *testing.T, file string) []byte {
	t.Helper()
	payload, err := os.ReadFile(path.Join(golden, file))
	require.NoError(t, err)
	return payload
}

// inUTC returns an event with its times in UTC, as Decode returns them.
func inUTC(event order.Event) order.Event {
	data := order.DataOf(event)
	data.Order.CreatedAt, data.At = data.Order.CreatedAt.UTC(), data.At.UTC()
	switch event.(type) {
	case order.Created:
		return order.Created{EventData: data}
	case order.Paid:
		return order.Paid{EventData: data}
	case order.Shipped:
		return order.Shipped{EventData: data}
	case order.Cancelled:
		return order.Cancelled{EventData: data}
	}
	return nil
}

// TestGolden checks the public contract byte for byte: Encode writes the golden files, and asyncapi.yaml allows them. A change that breaks
// this test needs a new version of the type.
func TestGolden(t *testing.T) {
	for file, want := range goldenEvents {
		if !want.written {
			continue
		}
		message, err := fixed().Encode(want.event, order.Anyone())
		require.NoError(t, err)
		require.Equal(t, string(payloadOf(t, file)), string(message.Payload), file)
		message.Payload = nil
		require.Equal(t, outbox.Message{
			ID: eventID, Type: path.Dir(file), Subject: want.subject, Key: outbox.Key{Type: "order", ID: orderID}, Version: want.version,
		}, message)
	}
}

// TestGoldenMessagesAreReadForEver checks that every message that was ever published is still read, as the event that it meant then, and that
// asyncapi.yaml still allows the message.
func TestGoldenMessagesAreReadForEver(t *testing.T) {
	for file, want := range goldenEvents {
		message := outbox.Message{ID: eventID, Type: path.Dir(file), Payload: payloadOf(t, file)}
		event, err := fixed().Decode(message)
		require.NoError(t, err, file)
		require.Equal(t, inUTC(want.event), event, file)
		require.NoError(t, contract.CheckEvent(want.subject, message.Type, message.Payload), file)
	}
	for file, status := range goldenFulfillments {
		require.NoError(t, contract.CheckEvent("orders.fulfillment."+string(status), path.Dir(file), payloadOf(t, file)), file)
	}
}

// TestGoldenFilesNeverChange checks that no golden file was changed or removed, that the tests know each file, and that each message of
// asyncapi.yaml has one.
func TestGoldenFilesNeverChange(t *testing.T) {
	require.NoError(t, contract.CheckPublished(os.DirFS(golden)))
	types := map[string]bool{}
	require.NoError(t, fs.WalkDir(os.DirFS(golden), ".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, ".json") {
			_, order := goldenEvents[file]
			_, ofFulfillment := goldenFulfillments[file]
			require.True(t, order || ofFulfillment, "no test knows %s", file)
			types[path.Dir(file)] = true
		}
		return err
	}))
	published, err := contract.EventNames()
	require.NoError(t, err)
	require.NotEmpty(t, published)
	for _, name := range published {
		require.True(t, types[name], "%s has no golden file", name)
	}
	require.Len(t, types, len(published), "asyncapi.yaml has every type that was ever published")
}
