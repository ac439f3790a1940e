package telemetry

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestIsSampledAgreesWithThePropagator checks that isSampled and the propagator agree for all headers in which the propagator
// finds a span.
func TestIsSampledAgreesWithThePropagator(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]`),
			rapid.StringMatching(`[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-fA-F]{2}(-x)?`),
			rapid.String(),
		).Draw(t, "traceparent")
		headers := map[string]string{"traceparent": text}
		if created := creationContext(context.Background(), headers); created.IsValid() {
			require.Equal(t, created.IsSampled(), isSampled(headers))
		} else {
			isSampled(headers) // must not panic
		}
	})
}
