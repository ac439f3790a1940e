package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// externalCall is a call of an external handler, recorded when it arrives and again when it succeeds.
type externalCall struct {
	entry     outbox.Entry
	succeeded bool
}

// callTime returns Options.CallTime.
func (h *harness) callTime() time.Duration {
	if h.broken.ageless {
		return time.Hour
	}
	return idleTimeout * 2 / 5
}

// call is what an external handler does. A call may hang, lose its answer, or stop with its process.
func (h *harness) call(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	h.noteCall(tx, entry, false)
	switch {
	case h.injects("call hung", 20):
		sleep(ctx, 3*idleTimeout)
		return errors.New("it hung")
	case h.injects("call's answer lost", 20):
		return errors.New("the answer was lost")
	case h.injects("stalled handler", 10):
		time.Sleep(idleTimeout + time.Duration(h.below(2000))*time.Millisecond)
	case h.injects("slow handler", 200):
		sleep(ctx, time.Duration(h.below(500))*time.Millisecond)
	case h.injects("handler's outage", 10):
		return errLine
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case h.fails(entry):
		return errPoison
	}
	h.noteCall(tx, entry, true)
	return memory.NewTotals().Add(ctx, tx, customer, value.NewMoney(100, "USD"))
}

// noteCall records a call for the subscriber that is checked.
func (h *harness) noteCall(tx inbox.Tx, entry outbox.Entry, succeeded bool) {
	if tx.Subscriber() != subscriber {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, externalCall{entry: entry, succeeded: succeeded})
}

// called returns the number of calls that have arrived.
func (h *harness) called() (count int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, call := range h.calls {
		if !call.succeeded {
			count++
		}
	}
	return count
}

// checkCallOrder checks that every event that took effect had a call that succeeded. It also checks that the first call for an event came
// after a successful call for each earlier event of its aggregate. Discarded events do not count.
func (h *harness) checkCallOrder() string {
	if !h.external {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	called, succeeded := make(map[string]bool), make(map[string]bool)
	for _, call := range h.calls {
		switch {
		case call.succeeded:
			succeeded[call.entry.ID] = true
		case called[call.entry.ID]:
			h.seen["call repeated"]++
		default:
			called[call.entry.ID] = true
			for _, earlier := range h.log {
				if earlier.Key == call.entry.Key && earlier.Version < call.entry.Version && !succeeded[earlier.ID] && !h.discarded[earlier.ID] {
					return fmt.Sprintf(checkCalls+": version %d of %s was called for before version %d", call.entry.Version, call.entry.Key, earlier.Version)
				}
			}
		}
	}
	for _, entry := range h.inbox.History(subscriber) {
		if !succeeded[entry.ID] {
			return fmt.Sprintf(checkCalls+": position %d took effect without one", entry.Position)
		}
	}
	return ""
}
