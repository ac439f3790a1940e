package httpapi

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// TestParseKey checks that a key is 1 to 255 visible ASCII characters.
func TestParseKey(t *testing.T) {
	for c := range 256 {
		text := "a" + string([]byte{byte(c)})
		key, err := parseKey(text)
		if c >= '!' && c <= '~' {
			require.NoError(t, err)
			require.Equal(t, orders.Key(text), key)
			continue
		}
		require.ErrorIs(t, err, errKey, "%q", text)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.Empty(t, key)
	}
	_, err := parseKey(strings.Repeat("k", 255))
	require.NoError(t, err)
	for _, text := range []string{"", strings.Repeat("k", 256)} {
		_, err := parseKey(text)
		require.ErrorIs(t, err, errKey)
	}
}
