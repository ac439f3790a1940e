package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// undecided returns a parked event without its payload and headers. Behind counts the parked events of the aggregate that come after it.
func (l lot) undecided(event *relay.ParkedEvent) operations.UndecidedEvent {
	behind := l.inOrder(func(e *relay.ParkedEvent) bool {
		return e.State == relay.Parked && e.Key == event.Key && e.Position > event.Position
	})
	return operations.UndecidedEvent{
		Position: event.Position, EventID: event.EventID, Key: event.Key, Type: event.Type, Reason: beginning(event.Reason),
		First: event.ParkedAt, Last: event.ChangedAt, EventsBehind: len(behind),
	}
}

// EachUndecided visits the events after it has read all of them.
func (p *Parking) EachUndecided(ctx context.Context, visit func(operations.UndecidedEvent) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, event := range p.undecided() {
		if !visit(event) {
			break
		}
	}
	return nil
}

func byKey(a, b outbox.Key) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID)) }

// undecided returns the first parked event of each aggregate.
func (p *Parking) undecided() (found []operations.UndecidedEvent) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	first := make(map[outbox.Key]bool)
	for _, event := range p.log.lot.inOrder(func(e *relay.ParkedEvent) bool { return e.State == relay.Parked }) {
		if !first[event.Key] {
			found = append(found, p.log.lot.undecided(event))
		}
		first[event.Key] = true
	}
	slices.SortFunc(found, func(a, b operations.UndecidedEvent) int { return byKey(a.Key, b.Key) })
	return found
}

// Undecided returns events sorted by the type and the id of their aggregate.
func (p *Parking) Undecided(ctx context.Context, after outbox.Key, limit int) (found []operations.UndecidedEvent, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, event := range p.undecided() {
		if byKey(event.Key, after) > 0 {
			event.EventsBehind = 0
			found = append(found, event)
		}
	}
	return found[:min(len(found), max(limit, 0))], nil
}

// RedriveChosen makes one change to the parking lot.
func (p *Parking) RedriveChosen(ctx context.Context, positions []outbox.Position, choice operations.Choice) (int, error) {
	return p.change(ctx, positions, choice, func(l lot, chosen *relay.ParkedEvent) {
		for _, event := range l {
			if event.State == relay.Parked && event.Key == chosen.Key && event.Position >= chosen.Position {
				setState(event, relay.Redrive, 0)
			}
		}
	})
}

// DiscardChosen makes one change to the parking lot.
func (p *Parking) DiscardChosen(ctx context.Context, positions []outbox.Position, choice operations.Choice) (int, error) {
	return p.change(ctx, positions, choice, func(_ lot, chosen *relay.ParkedEvent) { setState(chosen, relay.Discarded, 0) })
}

func (p *Parking) change(
	ctx context.Context, positions []outbox.Position, choice operations.Choice, change func(l lot, chosen *relay.ParkedEvent),
) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	chosen := p.log.lot.inOrder(func(e *relay.ParkedEvent) bool {
		return e.State == relay.Parked && slices.Contains(positions, e.Position) && choice.Has(p.log.lot.undecided(e))
	})
	for _, event := range chosen {
		change(p.log.lot, event)
	}
	return len(chosen), nil
}
