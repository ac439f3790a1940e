package relaying_test

import (
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// redrive asks for a redrive of all parked events, of those of one aggregate, or of those that were parked for one reason.
func (h *harness) redrive(choice int) {
	parked, err := h.parking.Waiting(h.context(), 100)
	if err != nil || len(parked) == 0 {
		return
	}
	event := parked[choice%len(parked)]
	if choice%3 == 2 {
		chosen, err := h.parking.RedriveChosen(h.context(), h.firstParked(), operations.Choice{Group: fault.NewFingerprint(event.Reason).ID})
		if err == nil && chosen > 0 {
			h.hit("asked to redrive a group")
		}
		return
	}
	var key *outbox.Key
	if choice%2 == 0 {
		key = &event.Key
	}
	if n, err := h.parking.Redrive(h.context(), key); err == nil && n > 0 {
		h.hit("asked to redrive")
	}
}

// discard gives up one parked event, or the first parked event of an aggregate.
func (h *harness) discard(choice int) {
	parked, err := h.parking.Waiting(h.context(), 100)
	if err != nil || len(parked) == 0 {
		return
	}
	event := parked[choice%len(parked)]
	if choice%3 != 2 {
		if err := h.parking.Discard(h.context(), event.Position); err == nil {
			h.hit("asked to discard")
			h.discarded[event.EventID] = true
		}
		return
	}
	first, err := h.parking.Undecided(h.context(), outbox.Key{}, 100)
	if err != nil {
		return
	}
	for _, event := range first {
		chosen, err := h.parking.DiscardChosen(h.context(), []outbox.Position{event.Position}, operations.Choice{Aggregate: parked[0].Key})
		if err == nil && chosen > 0 {
			h.hit("asked to discard a choice")
			h.discarded[event.EventID] = true
		}
	}
}

// firstParked returns the positions of the first parked event of each aggregate.
func (h *harness) firstParked() (positions []outbox.Position) {
	first, err := h.parking.Undecided(h.context(), outbox.Key{}, 100)
	if err != nil {
		return nil
	}
	for _, event := range first {
		positions = append(positions, event.Position)
	}
	return positions
}
