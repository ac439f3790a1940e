package outboxtest

import (
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// ParkingHarness is an empty parking lot, with the log that its events are in and the cursor and the lease that fence it.
type ParkingHarness interface {
	CursorHarness
	Parking() ports.Parking
	Attendant() ports.Attendant
}
