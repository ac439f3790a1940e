package operations

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// ParkingAdmin is the parking lot as an operator sees it. What is to be redriven is redriven by the leader, soon.
type ParkingAdmin interface {
	// Redrive asks for every Parked event of the aggregate, or of all aggregates when key is nil, and returns how many
	// there were. If there was none of the aggregate the answer is ErrNotParked.
	Redrive(ctx context.Context, key *outbox.Key) (int, error)
	// Discard gives up the Parked event at position for ever, or answers ErrNotParked. The events behind it wait on. It also
	// takes one that is to be redriven and never can be, because somebody deleted it from the log.
	Discard(ctx context.Context, position outbox.Position) error
	// Waiting lists at most limit of the events that wait, in order of position.
	Waiting(ctx context.Context, limit int) ([]relay.ParkedEvent, error)
	// Undecided returns the first Parked event of each aggregate after a key, in an order of keys of its own, at most limit. The other
	// Parked events of the aggregate are behind it.
	Undecided(ctx context.Context, after outbox.Key, limit int) ([]UndecidedEvent, error)
	// RedriveChosen asks for those of the events that are Parked and of the choice, and for the Parked events behind each in its
	// aggregate, all at once. It returns how many of the events it chose.
	RedriveChosen(ctx context.Context, positions []outbox.Position, choice Choice) (int, error)
	// DiscardChosen gives those of the events up that are Parked and of the choice, all at once. It returns how many these are.
	DiscardChosen(ctx context.Context, positions []outbox.Position, choice Choice) (int, error)
}
