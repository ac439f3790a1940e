package relaying_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The checks, by the promise that each one is named for.
const (
	checkLost      = "nothing lost"
	checkTwice     = "nothing twice"
	checkOrder     = "in order"
	checkGhost     = "no ghosts"
	checkParking   = "parked or published"
	checkUntrouble = "no halt and no complaint"
)

func (w *world) judge(halt *relay.Halt, forgiven bool) map[string]string {
	failed := make(map[string]string)
	if halt != nil {
		failed[checkUntrouble] = halt.Error()
	}
	if len(w.complaints) > 0 {
		failed[checkUntrouble] = w.complaints[0]
	}
	committed := make(map[string]outbox.Position)
	for _, entry := range w.log.Committed() {
		committed[entry.ID] = entry.Position
	}
	published, versions := make(map[string]bool), make(map[outbox.Key]int64)
	var progress, place outbox.Position // of the message before; of the event before that came in its place
	var adopted outbox.Position         // up to here the stream need not hold what another one held
	for _, message := range w.stream.Messages() {
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
			failed[checkTwice] = message.Entry.ID
			continue
		}
		if message.Event == progress && message.Event <= place || message.Entry.Version <= versions[message.Entry.Key] {
			failed[checkOrder] = message.Entry.ID
		}
		if message.Event == progress {
			place = message.Event
		}
		if committed[message.Entry.ID] == 0 {
			failed[checkGhost] = message.Entry.ID
		}
		published[message.Entry.ID], versions[message.Entry.Key] = true, message.Entry.Version
	}
	waiting := make(map[string]bool)
	for _, event := range w.parking.Lot() {
		if waiting[event.EventID] = event.State.Waits(); waiting[event.EventID] && forgiven {
			failed[checkParking] = event.EventID + " still waits: " + string(event.State)
		}
	}
	for id, position := range committed {
		switch {
		case !published[id] && w.former[id] && position <= adopted:
		case !published[id] && !waiting[id] && !w.given[id]:
			failed[checkLost] = id
		case published[id] && (waiting[id] || w.given[id]):
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
