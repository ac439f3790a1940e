package operations_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func TestEveryHaltHasAMeaning(t *testing.T) {
	for _, reason := range relay.HaltReasons() {
		require.NotEmpty(t, operations.Halt{Halt: relay.Halt{Reason: reason}}.Meaning(), reason)
	}
	require.Empty(t, operations.Halt{Halt: relay.Halt{Reason: "of the future"}}.Meaning())
}

func TestParseAggregate(t *testing.T) {
	const id = "550e8400-e29b-41d4-a716-446655440000"
	for text, want := range map[string]outbox.Key{
		"550E8400-e29b-41d4-a716-446655440000": {Type: "order", ID: id},
		"order/" + id:                          {Type: "order", ID: id},
		"invoice/a/b c":                        {Type: "invoice", ID: "a/b c"},
	} {
		key, err := operations.ParseAggregate(text)
		require.NoError(t, err)
		require.Equal(t, want, key)
	}
	for _, text := range []string{"", "7", "/", "order/", "/" + id, "order/\x00", "a/\xff"} {
		_, err := operations.ParseAggregate(text)
		require.ErrorIs(t, err, operations.ErrAggregate, "%q", text)
	}
}
