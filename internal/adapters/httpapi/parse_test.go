package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// TestParseAggregate checks which texts name an aggregate.
func TestParseAggregate(t *testing.T) {
	const id = "550e8400-e29b-41d4-a716-446655440000"
	for text, want := range map[string]outbox.Key{
		"550E8400-e29b-41d4-a716-446655440000": {Type: "order", ID: id},
		"order/" + id:                          {Type: "order", ID: id},
		"invoice/a/b c":                        {Type: "invoice", ID: "a/b c"},
	} {
		key, err := httpapi.ParseAggregate(text)
		require.NoError(t, err)
		require.Equal(t, want, key)
	}
	for _, text := range []string{"", "7", "/", "order/", "/" + id, "order/\x00", "a/\xff"} {
		_, err := httpapi.ParseAggregate(text)
		require.ErrorIs(t, err, httpapi.ErrAggregate, "%q", text)
	}
}
