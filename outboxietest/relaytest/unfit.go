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
	for name, look := range map[string]func() (relay.StreamInfo, error){
		"Look":               func() (relay.StreamInfo, error) { return publisher.Look(t.Context()) },
		"Open":               func() (relay.StreamInfo, error) { return publisher.Open(t.Context(), 0) },
		"of another, Open":   func() (relay.StreamInfo, error) { return h.Publisher().Open(t.Context(), 1) },
		"again and again":    func() (relay.StreamInfo, error) { return publisher.Open(t.Context(), 0) },
		"Look after an Open": func() (relay.StreamInfo, error) { return publisher.Look(t.Context()) },
	} {
		seen, err := look()
		require.ErrorIs(t, err, relay.ErrStreamUnfit, name)
		require.Equal(t, info.Created, seen.Created, name)
		require.EqualValues(t, 20, seen.LastSequence, name)
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
