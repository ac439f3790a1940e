package jetstream_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func (b *broker) message(sequence uint64) (string, map[string]string, string) {
	b.t.Helper()
	message := b.kept(sequence)
	header := map[string]string{}
	for name, values := range message.headers(b.t) {
		require.Len(b.t, values, 1)
		if !strings.HasPrefix(name, "Nats-Expected-") {
			header[name] = values[0]
		}
	}
	return message.Subject, header, string(message.Data)
}

// TestControlMessagesOnTheWire checks the subject, headers and body of control messages byte for byte, because other programs rely on
// them.
func TestControlMessagesOnTheWire(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	for i, c := range []struct {
		control relay.ControlMessage
		body    string
		header  map[string]string
	}{
		{
			relay.ControlMessage{Progress: outbox.Progress{Position: 46, EventID: "ü-1"}, Parked: "100% of things.> is\nü", LastOwnSequence: 45},
			`{"position":46,"event_id":"ü-1","reason":"100% of things.> is\nü"}`,
			map[string]string{
				"ce-id": "%C3%BC-1", "ce-type": "outboxie.event.parked.v1",
				"Outbox-Progress": "46/%C3%BC-1", "Outbox-Kept": "45", "Outbox-Parked": "100%25%20of%20things.>%20is%0A%C3%BC",
			},
		},
		{
			relay.ControlMessage{Progress: outbox.Progress{Position: 46, EventID: "e"}},
			`{"position":46,"event_id":"e"}`,
			map[string]string{"ce-id": "46-2", "ce-type": "outboxie.log.adopted.v1", "Outbox-Progress": "46/e", "Outbox-Kept": "0"},
		},
		{
			relay.ControlMessage{},
			`{"position":0}`,
			map[string]string{"ce-id": "0-3", "ce-type": "outboxie.log.adopted.v1", "Outbox-Progress": "0/", "Outbox-Kept": "0"},
		},
	} {
		before := time.Now()
		last, err := publisher.PublishControl(t.Context(), uint64(i), c.control)
		require.NoError(t, err)
		subject, header, body := b.message(last)
		require.Equal(t, "outboxie.ORDERS.notices", subject)
		require.Equal(t, c.body, strings.TrimSpace(body))
		noticed, err := time.Parse(time.RFC3339Nano, header["ce-time"])
		require.NoError(t, err)
		require.WithinRange(t, noticed, before, time.Now())
		delete(header, "ce-time")
		c.header["ce-specversion"], c.header["ce-source"] = "1.0", "/outboxie/relay"
		c.header["ce-datacontenttype"], c.header["content-type"] = "application/json", "application/json"
		require.Equal(t, c.header, header)
	}
}

// TestControlMessageIsNoEvent checks that no subscriber gets a control message as an event, and that a control message cannot be read
// as an event.
func TestControlMessageIsNoEvent(t *testing.T) {
	r := newReading(t)
	last, err := r.publisher.PublishControl(t.Context(), 0, relay.ControlMessage{Progress: outbox.Progress{Position: 7, EventID: "e"}, Parked: "too large"})
	require.NoError(t, err)
	r.tail = last
	r.Append(t, relaytest.NewEntries(7, 1)...)
	messages, err := r.reader(t).Read(t.Context(), 1, everything)
	require.NoError(t, err)
	require.Len(t, messages, 2)
	require.Nil(t, messages[0].Event)
	require.EqualValues(t, 8, messages[1].Event.Position)

	subject, header, body := r.message(1)
	message := nats.NewMsg(subject)
	for name, value := range header {
		message.Header.Set(name, value)
	}
	_, err = jetstream.Decode(subject, message.Header, []byte(body))
	require.ErrorIs(t, err, inbox.ErrUnreadable)
}

func TestRedrivenEventOnTheWire(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	entries := relaytest.NewEntries(0, 20)
	_, err := publisher.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	at := outbox.Progress{Position: 99, EventID: "a b"}
	_, err = publisher.Redrive(t.Context(), 20, at, entries)
	require.NoError(t, err)
	for _, i := range []uint64{1, 7, 20} {
		subject, first, body := b.message(i)
		again, second, same := b.message(20 + i)
		require.Equal(t, subject, again)
		require.Equal(t, body, same)
		require.Equal(t, "99/a%20b", second["Outbox-Progress"])
		delete(second, "Outbox-Progress")
		for _, header := range []map[string]string{first, second} {
			delete(header, "Nats-Batch-Id")
		}
		require.Equal(t, first, second)
	}
}

// TestWhatIsPublishedCanBeRedriven checks that the largest event that can be published still fits with the additional headers
// of a redrive.
func TestWhatIsPublishedCanBeRedriven(t *testing.T) {
	b := newBroker(t)
	publisher := b.opened()
	entries := relaytest.NewEntries(0, 1)
	fits := func(payload int, store func() error) bool {
		entries[0].Payload = []byte(strings.Repeat("7", payload))
		err := store()
		if err != nil && !isTailMoved(err) {
			requireRefused(t, err)
		}
		return isTailMoved(err)
	}
	at := outbox.Progress{Position: math.MaxInt64, EventID: "01934567-89ab-7def-8123-456789abcdef"}
	published := func() error { _, err := publisher.Publish(t.Context(), 9, entries); return err }
	redriven := func() error { _, err := publisher.Redrive(t.Context(), 9, at, entries); return err }
	largest := maxSize
	for !fits(largest, published) {
		largest--
	}
	require.True(t, fits(largest, redriven))
	require.False(t, fits(largest+2, redriven), "positions have 19 digits of the 20 that there is room for")
}

// TestControlMessageFitsSmallStreams checks that a control message fits into a stream with a small limit. Otherwise an event that
// blocks the relay could not be parked.
func TestControlMessageFitsSmallStreams(t *testing.T) {
	for _, limit := range []int32{512, 600, 1000, 2000, 4000} {
		b := newBroker(t)
		publisher := b.publisher(jetstream.PublisherOptions{MaxMsgSize: limit})
		_, err := publisher.Open(t.Context(), 1)
		require.NoError(t, err)
		reason := strings.Repeat("€ ", 1000)
		_, err = publisher.PublishControl(t.Context(), 0, relay.ControlMessage{Progress: relaytest.NewEntries(41, 1)[0].Progress(), Parked: reason})
		require.NoError(t, err, "%d", limit)
		meta, err := publisher.At(t.Context(), 1)
		require.NoError(t, err)
		require.NotEmpty(t, meta.Parked, "%d", limit)
		require.True(t, strings.HasPrefix(reason, meta.Parked), "%d: %q", limit, meta.Parked)
		_, _, body := b.message(1)
		var read struct{ Reason string }
		require.NoError(t, json.Unmarshal([]byte(body), &read))
		require.Equal(t, meta.Parked, read.Reason)
	}
}

func TestHeadersThatAreNotOurs(t *testing.T) {
	const absent = "-"
	meta := func(id, position, progress, parked string) relay.MessageMeta {
		header := nats.Header{}
		for name, value := range map[string]string{
			"ce-id": id, "Outbox-Position": position, "Outbox-Progress": progress, "Outbox-Parked": parked,
		} {
			if value != absent {
				header.Set(name, value)
			}
		}
		return jetstream.MetaOf(header)
	}
	own := outbox.Progress{Position: 7, EventID: "e"}
	newer := outbox.Progress{Position: 99, EventID: "newer/est"}
	require.Equal(t, relay.MessageMeta{Own: true, Progress: own, Event: 7}, meta("e", "7", absent, absent))
	require.Equal(t, relay.MessageMeta{Own: true, Progress: newer, Event: 7, Redriven: true}, meta("e", "7", "99/newer/est", absent))
	require.Equal(t, relay.MessageMeta{Own: true, Progress: outbox.Progress{Position: 99}, Event: 7, Redriven: true}, meta("e", "7", "99/", absent))
	require.Equal(t, relay.MessageMeta{Own: true, Progress: newer, Parked: "too large", LastOwnSequence: math.MaxUint64}, meta("e", absent, "99/newer/est", "too%20large"))
	require.Equal(t, relay.MessageMeta{Own: true, LastOwnSequence: math.MaxUint64}, meta("0-1", absent, "0/", absent))
	for _, foreign := range [][4]string{
		{absent, absent, absent, absent},
		{"e", absent, absent, absent},
		{"e", absent, absent, "too large"},
		{"e", "0", absent, absent},
		{"e", "-7", absent, absent},
		{"e", "seven", absent, absent},
		{"e", "", absent, absent},
		{absent, "7", absent, absent},
		{"", "7", absent, absent},
		{"%zz", "7", absent, absent},
		{"e", "seven", "99/newer", absent},
		{"e", "", "99/newer", absent},
		{"e", "7", "", absent},
		{"e", "7", "/", absent},
		{"e", "7", "99", absent},
		{"e", "7", "-1/newer", absent},
		{"e", "7", "new/est", absent},
		{"e", "7", "99/%zz", absent},
		{"e", "7", "99999999999999999999/newer", absent},
		{"e", absent, "99", "too large"},
		{"e", absent, "99/newer", "100%"},
	} {
		require.Zero(t, meta(foreign[0], foreign[1], foreign[2], foreign[3]), "%q", foreign)
	}
}

func isTailMoved(err error) bool { return errors.Is(err, relay.ErrTailMoved) }
