package notifying_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/notifying"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/webhook"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// endpoint records the ids of the events that it gets, and returns err.
type endpoint struct {
	got []string
	err error
}

func (e *endpoint) Deliver(_ context.Context, entry outbox.Entry) error {
	e.got = append(e.got, entry.ID)
	return e.err
}

// TestDeliver checks that events of each type are delivered, and which error the handler returns for each error of the endpoint.
func TestDeliver(t *testing.T) {
	var log bytes.Buffer
	to := &endpoint{}
	hook := notifying.New("shop", []string{"a", "b"}, to, slog.New(slog.NewTextHandler(&log, nil)))
	require.ElementsMatch(t, []string{"a", "b"}, slices.Collect(maps.Keys(hook.Functions())))
	entry := relaytest.NewEntries(0, 1)[0]
	for _, deliver := range hook.Functions() {
		require.NoError(t, deliver(t.Context(), nil, entry))
	}
	require.Equal(t, []string{entry.ID, entry.ID}, to.got)
	hook.Applied(t.Context(), entry)
	require.Contains(t, log.String(), "event_id="+entry.ID)

	deliver := hook.Functions()["a"]
	to.err = webhook.ErrRefused.With("no")
	require.True(t, inbox.Permanent(deliver(t.Context(), nil, entry)))
	to.err = webhook.ErrDown
	require.Equal(t, fault.Unavailable, fault.KindOf(deliver(t.Context(), nil, entry)))
	to.err = errors.New("500")
	require.Equal(t, to.err, deliver(t.Context(), nil, entry))
}
