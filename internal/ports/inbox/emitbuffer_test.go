package inbox_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestEmittedID checks that one id is still the same, because every version of this program must return it. It also checks that each
// argument changes the id, and that each id is a UUID that begins like the id of the cause.
func TestEmittedID(t *testing.T) {
	const first = "01934567-89ab-7def-8123-456789abcdef"
	cause := outbox.Entry{Message: outbox.Message{ID: first}}
	require.Equal(t, "01934567-89ab-89e0-a85f-6d2e41989e47", inbox.EmittedID("fulfillment", cause, 0))
	seen := make(map[string]bool)
	for _, handler := range []string{"fulfillment", "fulfillmen", ""} {
		for _, id := range []string{first, "01934567-89ab-7def-8123-456789abcdee", uuid.Must(uuid.NewRandom()).String(), "no UUID"} {
			cause.ID = id
			for n := range 12 {
				emitted := inbox.EmittedID(handler, cause, n)
				parsed, err := uuid.Parse(emitted)
				require.NoError(t, err)
				require.EqualValues(t, 8, parsed.Version())
				require.Equal(t, uuid.RFC4122, parsed.Variant())
				require.False(t, seen[emitted])
				seen[emitted] = true
				if len(id) == len(emitted) {
					require.Equal(t, id[:13], emitted[:13])
				}
			}
		}
	}
}
