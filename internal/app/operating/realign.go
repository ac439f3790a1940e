package operating

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// realign moves the log's misplaced events to its end, whatever the relay halted for. It comes after the notice: every append
// that was under way has failed by then, so no event is published at its old position any more, and a relay that takes over
// before all is moved halts again.
func (a *Adopter) realign(ctx context.Context, plan Adoption) error {
	_, err := a.repair.Realign(ctx, operations.Realignment{
		Position: plan.After.Position, Published: plan.published, Complete: plan.complete,
	})
	return err
}
