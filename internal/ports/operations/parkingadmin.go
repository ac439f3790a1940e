package operations

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// ParkingAdmin lets people decide about parked events. The leader redrives soon what an operator asked to redrive.
type ParkingAdmin interface {
	// Redrive asks for every Parked event of the aggregate, or of all aggregates if key is nil, and returns how many there were. If
	// the aggregate had none, it fails with relay.ErrNotParked.
	Redrive(ctx context.Context, key *outbox.Key) (int, error)
	// Discard gives the Parked event at position up for ever, or fails with relay.ErrNotParked. The events behind it keep waiting.
	// Discard also takes an event that is to be redriven and cannot be, because somebody deleted it from the log.
	Discard(ctx context.Context, position outbox.Position) error
	// Waiting lists the events that wait, in order of position, at most limit.
	Waiting(ctx context.Context, limit int) ([]relay.ParkedEvent, error)
	// Undecided returns the first Parked event of each aggregate after a key, at most limit. The order of keys is the adapter's own.
	// The other Parked events of the aggregate are behind the first one.
	Undecided(ctx context.Context, after outbox.Key, limit int) ([]UndecidedEvent, error)
	// RedriveChosen asks for those of the events that are Parked and of the choice, and for the Parked events behind each in its
	// aggregate, all at once. It returns how many events it chose.
	RedriveChosen(ctx context.Context, positions []outbox.Position, choice Choice) (int, error)
	// DiscardChosen gives up those of the events that are Parked and of the choice, all at once. It returns how many these are.
	DiscardChosen(ctx context.Context, positions []outbox.Position, choice Choice) (int, error)
}
