package outbox_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// TestMessagesHaveBounds checks that each part of a message may have its largest size, and no byte more.
func TestMessagesHaveBounds(t *testing.T) {
	for name, part := range map[string]struct {
		most int
		set  func(m *outbox.Message, size int)
	}{
		"aggregate type": {outbox.MaxAggregateType, func(m *outbox.Message, size int) { m.Key.Type = strings.Repeat("x", size) }},
		"aggregate id":   {outbox.MaxAggregateID, func(m *outbox.Message, size int) { m.Key.ID = strings.Repeat("x", size) }},
		"event type":     {outbox.MaxType, func(m *outbox.Message, size int) { m.Type = strings.Repeat("x", size) }},
		"subject":        {outbox.MaxSubject, func(m *outbox.Message, size int) { m.Subject = strings.Repeat("x", size) }},
		"headers": {outbox.MaxHeaders - 8, func(m *outbox.Message, size int) {
			m.Headers = map[string]string{"a": "", "b": ""}
			m.Headers["b"] = strings.Repeat("x", size-outbox.HeadersSize(m.Headers))
		}},
		"payload": {outbox.MaxPayload, func(m *outbox.Message, size int) {
			m.Payload = []byte(`"` + strings.Repeat("x", size-2) + `"`)
		}},
	} {
		message := valid()
		if name != "payload" { // a payload of the largest size is slow to validate
			part.set(&message, part.most)
			require.NoError(t, message.Validate(), name)
		}
		part.set(&message, part.most+1)
		err := message.Validate()
		require.ErrorIs(t, err, outbox.ErrInvalidMessage, name)
		require.ErrorContains(t, err, "its "+name)
		require.ErrorContains(t, err, "takes at most")
	}
}
