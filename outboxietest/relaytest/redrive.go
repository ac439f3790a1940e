package relaytest

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// redriveAt is the progress of the log that redriven events carry.
var redriveAt = outbox.Progress{Position: 5000, EventID: "50% \"off\"/ü"}

func requireMeta(t *testing.T, h StreamHarness, sequence uint64, want relay.MessageMeta) {
	t.Helper()
	meta, err := h.Publisher().At(t.Context(), sequence)
	require.NoError(t, err)
	require.Equal(t, want, meta)
}

func redriveMeta(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	inPlace, later, next := NewEntries(40, 2), NewEntries(0, 20), NewEntries(42, 10)
	later[0].Headers = map[string]string{"tracestate": "a=1"}
	publish(t, publisher, 0, inPlace)
	last, err := publisher.Redrive(t.Context(), 2, redriveAt, nil)
	require.NoError(t, err)
	require.Equal(t, uint64(2), last)
	// One event, a few and many at once. A progress has no id if retention has removed its row.
	unknown := outbox.Progress{Position: redriveAt.Position}
	for _, step := range []struct {
		from, to int
		at       outbox.Progress
	}{{0, 1, redriveAt}, {1, 4, inPlace[1].Progress()}, {4, 5, unknown}, {5, 20, unknown}} {
		last, err = publisher.Redrive(t.Context(), last, step.at, later[step.from:step.to])
		require.NoError(t, err)
		require.Equal(t, uint64(2+step.to), last)
		for i := step.from; i < step.to; i++ {
			requireMeta(t, h, uint64(3+i), relay.MessageMeta{Own: true, Progress: step.at, Event: later[i].Position, Redriven: true})
		}
	}
	publish(t, publisher, last, next)
	requireStored(t, h, slices.Concat(inPlace, later, next))
	require.Equal(t, later[0], h.Stored(t)[2], "a subscriber receives it like any other event")
}

func redriveConflict(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	there := NewEntries(0, 3)
	publish(t, publisher, 0, there)
	for _, n := range batchSizes {
		for _, after := range []uint64{0, 2, 4, 1000} {
			last, err := publisher.Redrive(t.Context(), after, redriveAt, NewEntries(100, n))
			require.ErrorIs(t, err, relay.ErrTailMoved, "%d entries after %d", n, after)
			require.Equal(t, after, last)
		}
	}
	requireTail(t, h, 3)
	requireStored(t, h, there)
}

func redriveRefused(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	tail := uint64(0)
	var all []outbox.Entry
	for _, before := range []int{0, 1, 30, 1003} {
		entries := NewEntries(outbox.Position(tail), before+3)
		entries[before].Payload = []byte(`"` + strings.Repeat("x", h.TooLarge()) + `"`)
		last, err := publisher.Redrive(t.Context(), tail, redriveAt, entries)
		var refused *relay.RefusedError
		require.ErrorAs(t, err, &refused, "after %d", before)
		require.Equal(t, entries[before].ID, refused.Entry.ID)
		require.NotEmpty(t, refused.Reason)
		require.Equal(t, tail+uint64(before), last)
		tail = last
		all = append(all, entries[:before]...)
		requireTail(t, h, tail)
	}
	requireStored(t, h, all)
	requireMeta(t, h, tail, relay.MessageMeta{Own: true, Progress: redriveAt, Event: all[len(all)-1].Position, Redriven: true})
}

func controlMeta(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	entries := NewEntries(0, 12)
	publish(t, publisher, 0, entries[:1])
	tail := uint64(1)
	for _, control := range []relay.ControlMessage{
		{Progress: entries[1].Progress(), Parked: "it takes 70000 bytes, and the broker takes at most 65536", LastOwnSequence: 1},
		{Progress: redriveAt, Parked: "its subject \"a\\r\\nb\" is 100% füßen's,\n\tnot one of things.>"},
		{Progress: entries[11].Progress(), LastOwnSequence: 2}, // an adoption
		{Progress: entries[11].Progress(), Confirms: true, LastOwnSequence: 3},
		{Progress: outbox.Progress{Position: 12}},
		{}, // an adoption before the first event
		{},
	} {
		last, err := publisher.PublishControl(t.Context(), tail, control)
		require.NoError(t, err)
		require.Equal(t, tail+1, last)
		tail = last
		requireTail(t, h, tail)
		requireMeta(t, h, tail, relay.MessageMeta{
			Own: true, Progress: control.Progress, Parked: control.Parked, Confirms: control.Confirms, LastOwnSequence: control.LastOwnSequence,
		})
	}
	publish(t, publisher, tail, entries[2:])
	requireStored(t, h, append(entries[:1:1], entries[2:]...))
}

func controlReason(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	for after, character := range []string{"x", "ü", "€", "𝄞", " "} {
		reason := "x" + strings.Repeat(character, 100_000)
		_, err := publisher.PublishControl(t.Context(), uint64(after), relay.ControlMessage{Progress: redriveAt, Parked: reason})
		require.NoError(t, err)
		meta, err := publisher.At(t.Context(), uint64(after)+1)
		require.NoError(t, err)
		require.Equal(t, redriveAt, meta.Progress)
		require.True(t, strings.HasPrefix(reason, meta.Parked) && utf8.ValidString(meta.Parked), "%q", meta.Parked)
		require.Greater(t, len(meta.Parked), 100, "%q", meta.Parked)
	}
}

func controlConflict(t *testing.T, h StreamHarness) {
	publisher, _ := openStream(t, h)
	publish(t, publisher, 0, NewEntries(0, 3))
	for _, reason := range []string{"too large", ""} {
		for _, after := range []uint64{0, 2, 4, 1000} {
			last, err := publisher.PublishControl(t.Context(), after, relay.ControlMessage{Progress: redriveAt, Parked: reason})
			require.ErrorIs(t, err, relay.ErrTailMoved, "after %d", after)
			require.Equal(t, after, last)
		}
	}
	requireTail(t, h, 3)
}
