package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// made is a call of an external handler, when it arrives, or when it has succeeded.
type made struct {
	entry     outbox.Entry
	succeeded bool
}

// callTime returns how long a call may take, and how old its transaction may be.
func (w *world) callTime() time.Duration {
	if w.broken.ageless {
		return time.Hour
	}
	return idleTimeout * 2 / 5
}

// call is what an external handler does. A call may hang, lose its answer, or stop with its process.
func (w *world) call(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	w.noteCall(tx, entry, false)
	switch {
	case w.befalls("call hung", 20):
		sleep(ctx, 3*idleTimeout)
		return errors.New("it hung")
	case w.befalls("call's answer lost", 20):
		return errors.New("the answer was lost")
	case w.befalls("stalled handler", 10):
		time.Sleep(idleTimeout + time.Duration(w.dice(2000))*time.Millisecond)
	case w.befalls("slow handler", 200):
		sleep(ctx, time.Duration(w.dice(500))*time.Millisecond)
	case w.befalls("handler's outage", 10):
		return errLine
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case w.fails(entry):
		return errPoison
	}
	w.noteCall(tx, entry, true)
	return memory.NewTotals().Add(ctx, tx, customer, order.NewMoney(100, "USD"))
}

// noteCall notes a call for the subscriber that is judged.
func (w *world) noteCall(tx inbox.Tx, entry outbox.Entry, succeeded bool) {
	if tx.Subscriber() != subscriber {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, made{entry: entry, succeeded: succeeded})
}

// called returns how many calls have arrived.
func (w *world) called() (count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, call := range w.calls {
		if !call.succeeded {
			count++
		}
	}
	return count
}

// judgeCalls checks that the first call for an event came after a call for each one before it in its aggregate had succeeded, but for those
// that were discarded, and that what took effect was called for with success.
func (w *world) judgeCalls() string {
	if !w.external {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	called, succeeded := make(map[string]bool), make(map[string]bool)
	for _, call := range w.calls {
		switch {
		case call.succeeded:
			succeeded[call.entry.ID] = true
		case called[call.entry.ID]:
			w.seen["call repeated"]++
		default:
			called[call.entry.ID] = true
			for _, earlier := range w.log {
				if earlier.Key == call.entry.Key && earlier.Version < call.entry.Version && !succeeded[earlier.ID] && !w.discarded[earlier.ID] {
					return fmt.Sprintf(checkCalls+": version %d of %s was called for before version %d", call.entry.Version, call.entry.Key, earlier.Version)
				}
			}
		}
	}
	for _, entry := range w.inbox.History(subscriber) {
		if !succeeded[entry.ID] {
			return fmt.Sprintf(checkCalls+": position %d took effect without one", entry.Position)
		}
	}
	return ""
}
