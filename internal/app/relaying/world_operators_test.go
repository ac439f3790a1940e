package relaying_test

import (
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// redrive asks for everything that is parked, for one aggregate's, or for what is parked for one reason.
func (w *world) redrive(choice int) {
	parked, err := w.parking.Waiting(w.context(), 100)
	if err != nil || len(parked) == 0 {
		return
	}
	event := parked[choice%len(parked)]
	if choice%3 == 2 {
		chosen, err := w.parking.RedriveChosen(w.context(), w.firstParked(), operations.Choice{Group: fault.NewFingerprint(event.Reason).ID})
		if err == nil && chosen > 0 {
			w.hit("asked to redrive a group")
		}
		return
	}
	var key *outbox.Key
	if choice%2 == 0 {
		key = &event.Key
	}
	if n, err := w.parking.Redrive(w.context(), key); err == nil && n > 0 {
		w.hit("asked to redrive")
	}
}

// discard gives an event up, or the first parked one of an aggregate.
func (w *world) discard(choice int) {
	parked, err := w.parking.Waiting(w.context(), 100)
	if err != nil || len(parked) == 0 {
		return
	}
	event := parked[choice%len(parked)]
	if choice%3 != 2 {
		if err := w.parking.Discard(w.context(), event.Position); err == nil {
			w.hit("asked to discard")
			w.given[event.EventID] = true
		}
		return
	}
	first, err := w.parking.Undecided(w.context(), outbox.Key{}, 100)
	if err != nil {
		return
	}
	for _, event := range first {
		chosen, err := w.parking.DiscardChosen(w.context(), []outbox.Position{event.Position}, operations.Choice{Aggregate: parked[0].Key})
		if err == nil && chosen > 0 {
			w.hit("asked to discard a choice")
			w.given[event.EventID] = true
		}
	}
}

// firstParked returns the positions of the first parked event of each aggregate.
func (w *world) firstParked() (positions []outbox.Position) {
	first, err := w.parking.Undecided(w.context(), outbox.Key{}, 100)
	if err != nil {
		return nil
	}
	for _, event := range first {
		positions = append(positions, event.Position)
	}
	return positions
}
