package operations

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// ParkingAdmin lets people decide about parked events. An operator asks for a redrive; soon after, the leader redrives the events.
type ParkingAdmin interface {
	// Redrive asks the leader to redrive every Parked event of the aggregate, or of all aggregates if key is nil. It returns how many
	// events there were. If key is not nil and the aggregate had no Parked event, Redrive fails with relay.ErrNotParked.
	Redrive(ctx context.Context, key *outbox.Key) (int, error)
	// Discard gives up the Parked event at position for ever, or fails with relay.ErrNotParked. The events behind it keep waiting.
	// Discard also accepts an event in state Redrive if somebody deleted the event from the log, so that nobody can redrive it.
	Discard(ctx context.Context, position outbox.Position) error
	// Waiting lists the events that wait, in order of position, at most limit.
	Waiting(ctx context.Context, limit int) ([]relay.ParkedEvent, error)
	// EachUndecided calls visit once for the first Parked event of each aggregate, in any order, until visit returns false. The other
	// Parked events of the aggregate are behind the first one. EachUndecided reads the events in one snapshot. Visit must be quick, and
	// must not call the adapter. If EachUndecided fails, it may have visited some events.
	EachUndecided(ctx context.Context, visit func(UndecidedEvent) bool) error
	// Undecided returns the first Parked event of each aggregate after a key, at most limit. It does not count EventsBehind. The adapter
	// chooses the order of keys.
	Undecided(ctx context.Context, after outbox.Key, limit int) ([]UndecidedEvent, error)
	// RedriveChosen asks the leader to redrive the events at positions that are Parked and that choice includes, and the Parked events
	// behind each of them in its aggregate, all of them or none. It returns how many events it chose, without those behind them.
	RedriveChosen(ctx context.Context, positions []outbox.Position, choice Choice) (int, error)
	// DiscardChosen gives up the events at positions that are Parked and that choice includes, all of them or none. It returns how many
	// events it gave up.
	DiscardChosen(ctx context.Context, positions []outbox.Position, choice Choice) (int, error)
}
