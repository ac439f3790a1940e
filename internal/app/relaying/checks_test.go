package relaying_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The checks. Each has the name of the promise that it checks.
const (
	checkLost      = "nothing lost"
	checkOnce      = "nothing twice"
	checkOrder     = "in order"
	checkCommitted = "no ghosts"
	checkParking   = "parked or published"
	checkHealthy   = "no halt and no complaint"
)

// check compares log, stream and parking lot at the end of a run. It returns the checks that failed, each with its reason.
func (h *harness) check(halt *relay.Halt, forgiven bool) map[string]string {
	failed := make(map[string]string)
	if halt != nil {
		failed[checkHealthy] = halt.Error()
	}
	if len(h.complaints) > 0 {
		failed[checkHealthy] = h.complaints[0]
	}
	committed := make(map[string]outbox.Position)
	for _, entry := range h.log.Committed() {
		committed[entry.ID] = entry.Position
	}
	published, versions := make(map[string]bool), make(map[outbox.Key]int64)
	var progress, place outbox.Position // progress of the last message, and position of the last event that was not redriven
	var adopted outbox.Position         // a former stream held the events up to here
	for _, message := range h.stream.Messages() {
		if message.Adopted() {
			adopted = message.Progress.Position
		} else if message.Progress.Position < progress {
			failed[checkOrder] = fmt.Sprintf("progress falls from %d to %d", progress, message.Progress.Position)
		}
		progress = message.Progress.Position
		if message.Event == 0 {
			continue
		}
		if published[message.Entry.ID] {
			failed[checkOnce] = message.Entry.ID
			continue
		}
		if message.Event == progress && message.Event <= place || message.Entry.Version <= versions[message.Entry.Key] {
			failed[checkOrder] = message.Entry.ID
		}
		if message.Event == progress {
			place = message.Event
		}
		if committed[message.Entry.ID] == 0 {
			failed[checkCommitted] = message.Entry.ID
		}
		published[message.Entry.ID], versions[message.Entry.Key] = true, message.Entry.Version
	}
	waiting := make(map[string]bool)
	for _, event := range h.parking.Lot() {
		if waiting[event.EventID] = event.State.Waits(); waiting[event.EventID] && forgiven {
			failed[checkParking] = event.EventID + " still waits: " + string(event.State)
		}
	}
	for id, position := range committed {
		switch {
		case !published[id] && h.delivered[id] && position <= adopted:
		case !published[id] && !waiting[id] && !h.discarded[id]:
			failed[checkLost] = id
		case published[id] && (waiting[id] || h.discarded[id]):
			failed[checkParking] = id
		}
	}
	return failed
}

func describe(failed map[string]string) string {
	var text string
	for _, check := range slices.Sorted(maps.Keys(failed)) {
		text += fmt.Sprintf("check %q: %s\n", check, failed[check])
	}
	return text
}
