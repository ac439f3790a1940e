package relaytest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// logInvalid checks that a row which can never be published neither stops the reader nor gets lost.
func logInvalid(t *testing.T, h LogHarness) {
	appendCommitted(t, h, NewMessage("a", 1), NewMessage("b", 1), NewMessage("c", 1))
	before := readAll(t, h)
	h.Spoil(t, before[1].Position)

	for range 2 { // because an adapter may use another statement the second time
		entries := readAll(t, h)
		require.Equal(t, ids(before), ids(entries))
		require.Equal(t, before[1].Key, entries[1].Key)
		require.NotEmpty(t, entries[1].Invalid)
		require.Equal(t, entries[1].Invalid, entries[1].Unpublishable())
		require.Empty(t, entries[0].Invalid)
		require.Empty(t, entries[2].Invalid)
	}
	rest, err := h.Log().After(t.Context(), before[1].Progress(), plenty)
	require.NoError(t, err)
	require.Equal(t, ids(before[2:]), ids(rest.Entries))
}

// parkingInvalid checks that an event which can never be published is due with the reason, so that the publisher refuses it again.
func parkingInvalid(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "a")
	l.park(log...)
	h.Spoil(t, log[0].Position)
	l.redrive(2)
	due := l.due(log[1].Position, plenty)
	require.Equal(t, positions(log...), positions(due.Redrive...))
	require.NotEmpty(t, due.Redrive[0].Invalid)
	require.Empty(t, due.Redrive[1].Invalid)
}

// streamInvalid checks that the publisher refuses an entry if no subscriber could read it.
func streamInvalid(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	tail := uint64(0)
	var all []outbox.Entry
	for name, spoil := range map[string]func(*outbox.Entry){
		"what the log says":     func(e *outbox.Entry) { e.Invalid = "its row is damaged" },
		"no time":               func(e *outbox.Entry) { e.RecordedAt = time.Time{} },
		"a year of five digits": func(e *outbox.Entry) { e.RecordedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a time before Christ":  func(e *outbox.Entry) { e.RecordedAt = time.Date(-4, 1, 1, 0, 0, 0, 0, time.UTC) },
		"version 0":             func(e *outbox.Entry) { e.Version = 0 },
		"position 0":            func(e *outbox.Entry) { e.Position = 0 },
		"no id":                 func(e *outbox.Entry) { e.ID = "" },
		"no type":               func(e *outbox.Entry) { e.Type = "" },
		"no aggregate type":     func(e *outbox.Entry) { e.Key.Type = "" },
		"no aggregate id":       func(e *outbox.Entry) { e.Key.ID = "" },
		"a line feed":           func(e *outbox.Entry) { e.Headers = map[string]string{"a": "b\nc"} },
		"a carriage return":     func(e *outbox.Entry) { e.Headers = map[string]string{"a": "b\rc"} },
	} {
		for _, before := range []int{1, 12} { // an adapter may publish a few entries one by one, and many entries together
			entries := NewEntries(outbox.Position(tail), before+2)
			spoil(&entries[before])
			last, err := publisher.Publish(t.Context(), tail, entries)
			var refused *relay.RefusedError
			require.ErrorAs(t, err, &refused, name)
			require.Equal(t, entries[before], refused.Entry)
			require.Equal(t, entries[before].Unpublishable(), refused.Reason, name)
			require.Equal(t, tail+uint64(before), last, name)
			tail, all = last, append(all, entries[:before]...)

			last, err = publisher.Redrive(t.Context(), tail, redriveAt, entries[before:before+1])
			require.ErrorAs(t, err, &refused, name)
			require.Equal(t, tail, last)
		}
	}
	requireTail(t, h, tail)
	requireStored(t, h, all)
}
