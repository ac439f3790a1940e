package relaytest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// largePayload returns a JSON text of size bytes.
func largePayload(size int) []byte { return []byte(`"` + strings.Repeat("x", size-2) + `"`) }

// requireUnread requires an entry without its payload, whose Invalid names the size and the limit.
func requireUnread(t *testing.T, want, got outbox.Entry, size, largest string) {
	t.Helper()
	require.Equal(t, "its payload takes "+size+" bytes, and the broker takes at most "+largest, got.Invalid)
	require.Equal(t, got.Invalid, got.Unpublishable())
	require.Nil(t, got.Payload)
	require.Equal(t, want.Progress(), got.Progress())
	require.Equal(t, []string{want.Key.String(), want.Type, want.Subject}, []string{got.Key.String(), got.Type, got.Subject})
	require.Equal(t, want.Version, got.Version)
}

// logLarge checks that a payload which the broker never accepts is not read, and does not stop the reader.
func logLarge(t *testing.T, h LogHarness) {
	messages := []outbox.Message{NewMessage("a", 1), NewMessage("b", 1), NewMessage("b", 2), NewMessage("c", 1), NewMessage("c", 2)}
	messages[1].Payload, messages[3].Payload = largePayload(300), largePayload(90_000)
	appendCommitted(t, h, messages...)
	whole := readAll(t, h)
	limit := plenty
	limit.Largest = 299
	read := func() (all []outbox.Entry) {
		t.Helper()
		from := outbox.Progress{}
		for {
			page, err := h.Log().After(t.Context(), from, limit)
			require.NoError(t, err)
			if len(page.Entries) == 0 {
				return all
			}
			all = append(all, page.Entries...)
			from = all[len(all)-1].Progress()
			require.True(t, page.More || len(all) == len(messages), "%d entries", len(all))
		}
	}
	for range 2 { // because an adapter may use another statement the second time
		found := read()
		require.Equal(t, ids(whole), ids(found))
		requireUnread(t, whole[1], found[1], "300", "299")
		requireUnread(t, whole[3], found[3], "90000", "299")
		for _, i := range []int{0, 2, 4} {
			require.Equal(t, whole[i].Message, found[i].Message)
			require.Empty(t, found[i].Invalid)
		}
	}
	limit.Largest = 300
	found := read()
	require.Equal(t, whole[1].Message, found[1].Message)
	require.Empty(t, found[1].Invalid)
	requireUnread(t, whole[3], found[3], "90000", "300")
	limit.Largest = 90_000
	require.Equal(t, whole[3].Message, read()[3].Message)
}

// logLargeHeaders checks that headers above outbox.MaxHeaders are not read, and do not stop the reader.
func logLargeHeaders(t *testing.T, h LogHarness) {
	appendCommitted(t, h, NewMessage("a", 1), NewMessage("b", 1), NewMessage("c", 1))
	whole := readAll(t, h)
	// An adapter that stores headers compressed need not measure them exactly.
	h.SetHeaders(t, whole[1].Position, map[string]string{"name": strings.Repeat("x", 10*outbox.MaxHeaders)})
	for range 2 { // because an adapter may use another statement the second time
		found := readAll(t, h)
		require.Equal(t, ids(whole), ids(found))
		large := found[1]
		require.Contains(t, large.Invalid, "its headers take ")
		require.Contains(t, large.Invalid, fmt.Sprintf(" bytes, and at most %d can be sent", outbox.MaxHeaders))
		require.Equal(t, large.Invalid, large.Unpublishable())
		require.Empty(t, large.Headers)
		require.Nil(t, large.Payload)
		require.Equal(t, []string{whole[1].Key.String(), whole[1].Type, whole[1].Subject}, []string{large.Key.String(), large.Type, large.Subject})
		require.Equal(t, whole[1].Version, large.Version)
		for _, i := range []int{0, 2} {
			require.Equal(t, whole[i].Message, found[i].Message)
			require.Empty(t, found[i].Invalid)
		}
	}
	largest := map[string]string{"name": strings.Repeat("x", outbox.MaxHeaders-100)}
	h.SetHeaders(t, whole[1].Position, largest)
	found := readAll(t, h)
	require.Empty(t, found[1].Invalid)
	require.Equal(t, largest, found[1].Headers)
}

// logHeaderLimit checks that headers count in the limit of a read.
func logHeaderLimit(t *testing.T, h LogHarness) {
	var messages []outbox.Message
	for version := range int64(8) {
		message := NewMessage("a", version+1)
		message.Headers = map[string]string{"name": strings.Repeat("x", 5000)}
		messages = append(messages, message)
	}
	appendCommitted(t, h, messages...)
	page, err := h.Log().After(t.Context(), outbox.Progress{}, relay.ReadLimit{Count: 100, Bytes: 21_000})
	require.NoError(t, err)
	require.Len(t, page.Entries, 4)
	require.Equal(t, messages[3].Headers, page.Entries[3].Headers)
	require.True(t, page.More)
}

// parkingLarge checks that an event is due without its payload if the broker does not accept the payload. Once the broker accepts the payload,
// the event is due with it.
func parkingLarge(t *testing.T, h ParkingHarness) {
	l := lead(t, h)
	messages := []outbox.Message{NewMessage("a", 1), NewMessage("a", 2), NewMessage("a", 3)}
	messages[1].Payload = largePayload(90_000)
	appendCommitted(t, h, messages...)
	log := readAll(t, h)
	l.park(log...)
	l.redrive(3)
	limit := plenty
	limit.Largest = 89_999
	ready := l.due(log[2].Position, limit)
	require.Equal(t, positions(log[0]), positions(ready.Redrive...), "an entry that is too large ends the batch")
	require.Equal(t, log[0].Message, ready.Redrive[0].Message)

	l.reconcile(redrivenEvent(log[0], log[2]), 7)
	ready = l.due(log[2].Position, limit)
	require.Equal(t, positions(log[1]), positions(ready.Redrive...))
	requireUnread(t, log[1], ready.Redrive[0], "90000", "89999")

	limit.Largest = 90_000
	ready = l.due(log[2].Position, limit)
	require.NotEmpty(t, ready.Redrive)
	require.Equal(t, log[1].Message, ready.Redrive[0].Message)
	require.Empty(t, ready.Redrive[0].Invalid)
}
