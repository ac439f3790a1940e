package outboxtest

import (
	"testing"
	"time"

	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// RetentionHarness is a log of which nothing was removed yet, with its parking lot, cursor and lease.
type RetentionHarness interface {
	ParkingHarness
	Retention() ports.Retention
	Age(t *testing.T, by time.Duration) // makes older what was recorded in the log or changed in the parking lot so far
}
