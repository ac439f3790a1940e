package relaytest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func streamUnfit(t *testing.T, h StreamHarness) {
	publisher, info := openStream(t, h)
	entries := NewEntries(0, 60)
	publish(t, publisher, 0, entries[:20])
	repair := h.Misconfigure(t)
	for _, check := range []struct {
		name string
		look func() (relay.StreamInfo, error)
	}{
		{"Look", func() (relay.StreamInfo, error) { return publisher.Look(t.Context()) }},
		{"Open", func() (relay.StreamInfo, error) { return publisher.Open(t.Context(), 0) }},
		{"Open again", func() (relay.StreamInfo, error) { return publisher.Open(t.Context(), 0) }},
		{"Look after Open", func() (relay.StreamInfo, error) { return publisher.Look(t.Context()) }},
		{"Open of another instance", func() (relay.StreamInfo, error) { return h.Publisher().Open(t.Context(), 1) }},
	} {
		seen, err := check.look()
		require.ErrorIs(t, err, relay.ErrStreamUnfit, check.name)
		require.Equal(t, info.Created, seen.Created, check.name)
		require.EqualValues(t, 20, seen.LastSequence, check.name)
	}
	requireStored(t, h, entries[:20])
	repair()
	_, err := publisher.Look(t.Context())
	require.NoError(t, err)
	again, err := publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 20, again.LastSequence)
	publish(t, publisher, 20, entries[20:])
	requireStored(t, h, entries)
}
