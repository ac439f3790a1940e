package subscribing_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type transaction struct{}

func (*transaction) Subscriber() string { return subscriber }

// TestHandlerCallsTheFunctionOfTheType checks that Handle calls the function for the event's type, with the event's transaction. For an
// event of another type there is no handler, and a retry does not help.
func TestHandlerCallsTheFunctionOfTheType(t *testing.T) {
	var called, applied []string
	within := &transaction{}
	function := func(name string, result error) inbox.HandlerFunc {
		return func(_ context.Context, tx inbox.Tx, entry outbox.Entry) error {
			require.Same(t, within, tx)
			called = append(called, name+" "+entry.ID)
			return result
		}
	}
	handler := subscribing.NewHandler("emails", map[string]inbox.HandlerFunc{"b": function("of b", nil), "a": function("of a", errPoison)},
		func(_ context.Context, entry outbox.Entry) { applied = append(applied, entry.ID) })
	require.Equal(t, "emails", handler.Name())
	require.Equal(t, []string{"a", "b"}, handler.Types())
	entry := func(id, kind string) outbox.Entry { return outbox.Entry{Message: outbox.Message{ID: id, Type: kind}} }
	require.NoError(t, handler.Handle(t.Context(), within, entry("1", "b")))
	require.ErrorIs(t, handler.Handle(t.Context(), within, entry("2", "a")), errPoison)
	err := handler.Handle(t.Context(), within, entry("3", "c"))
	require.ErrorIs(t, err, inbox.ErrNoHandler)
	require.True(t, inbox.Permanent(err))
	require.Equal(t, []string{"of b 1", "of a 2"}, called)
	handler.Applied(t.Context(), entry("1", "b"))
	require.Equal(t, []string{"1"}, applied)
	subscribing.NewHandler("quiet", nil, nil).Applied(t.Context(), entry("1", "b"))
}
