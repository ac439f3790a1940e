package wording_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// TestParseAggregate checks which texts name an aggregate.
func TestParseAggregate(t *testing.T) {
	const id = "550e8400-e29b-41d4-a716-446655440000"
	for text, want := range map[string]outbox.Key{
		"550E8400-e29b-41d4-a716-446655440000": {Type: "order", ID: id},
		"order/" + id:                          {Type: "order", ID: id},
		"voucher/a/b c":                        {Type: "voucher", ID: "a/b c"},
	} {
		key, err := wording.ParseAggregate(text)
		require.NoError(t, err)
		require.Equal(t, want, key)
	}
	for _, text := range []string{"", "7", "/", "order/", "/" + id, "order/\x00", "a/\xff"} {
		_, err := wording.ParseAggregate(text)
		require.ErrorIs(t, err, wording.ErrAggregate, "%q", text)
	}
}

// TestParseEventState checks that every state of an event is read, and nothing else.
func TestParseEventState(t *testing.T) {
	for _, state := range operations.EventStates() {
		got, err := wording.ParseEventState(state)
		require.NoError(t, err)
		require.Equal(t, state, got)
	}
	for _, text := range []string{"", "Parked", "parked ", "<b>", "\x00"} {
		_, err := wording.ParseEventState(text)
		require.ErrorIs(t, err, wording.ErrEventState, "%q", text)
		require.ErrorContains(t, err, "unpublished, published, misplaced, parked, redrive, redriven, discarded")
	}
}
