package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// noLags knows no lags.
type noLags struct{}

func (noLags) LagsOf(context.Context, []operations.SubscriberProgress) ([]operations.Lag, error) {
	return nil, nil
}

func (noLags) Lags(context.Context) ([]operations.Lag, error) { return nil, nil }

// operator returns the operations on subscribers. Like a copy, it may read from a server of the stream that lags.
func (h *harness) operator() *operating.Subscribers {
	reader := memory.NewReader(h.stream, subscriber)
	if !h.faultFree() {
		reader.Behind = func() uint64 { return h.behind("lagging read") }
	}
	return operating.NewSubscribers(operating.SubscriberPorts{Operator: memory.NewOperator(h.inbox), Stream: reader, Lags: noLags{}, Log: h.inbox})
}

// operate is an operator who decides about the subscriber as a whole.
func (h *harness) operate() {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	o := h.operator()
	switch h.below(6) {
	case 0, 1:
		if o.Pause(ctx, subscriber) == nil {
			h.note("paused")
			h.checkPausedFor()
		}
		for o.Resume(h.t.Context(), subscriber) != nil {
			pass(time.Second)
		}
	case 2, 3:
		if _, _, err := o.SetLanes(ctx, subscriber, 1+h.below(9)); err == nil {
			h.note("lanes changed")
		}
	case 4:
		if h.move(ctx, o, uint64(h.below(int(h.stream.LastSequence())+1)), false) {
			h.note("rewound")
		}
	case 5:
		for range 10 { // at most sequences there is something that may not be skipped
			if h.move(ctx, o, uint64(h.below(int(h.stream.LastSequence())+1)), true) {
				h.note("skipped")
				return
			}
		}
	}
}

// noteLoss is Options.LossAdvice. It records that a lane has stopped before lost messages.
func (h *harness) noteLoss(string, uint64) string {
	h.note("stopped before a loss")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopsBeforeLoss = true
	return "decide"
}

// acceptLoss is an operator who starts a copy with Options.Continue instead of the others, if a lane has stopped before lost messages. The model
// never loses an event that the subscriber has not handled. But the bound for lost messages may be too high, so that a lane stops before
// messages whose events it has handled.
func (h *harness) acceptLoss() {
	h.mu.Lock()
	stops := h.stopsBeforeLoss
	h.stopsBeforeLoss = false
	h.mu.Unlock()
	if stops {
		h.endCopies()
		h.continues = true
		h.start()
	}
}

// checkPausedFor lets time go by while the subscriber is paused, and records a violation if anything takes effect.
func (h *harness) checkPausedFor() {
	before, calls := len(h.inbox.History(subscriber)), h.called()
	pass(time.Duration(h.below(3000)) * time.Millisecond)
	if after := len(h.inbox.History(subscriber)); after != before {
		h.violation = fmt.Sprintf(checkPaused+": %d events took effect", after-before)
	}
	if after := h.called(); after != calls {
		h.violation = fmt.Sprintf(checkPaused+": %d calls", after-calls)
	}
}

// move moves lanes to a sequence. It skips only events that the subscriber has handled. Otherwise a skipped event would look like a lost
// event.
func (h *harness) move(ctx context.Context, o *operating.Subscribers, sequence uint64, forwards bool) bool {
	plan, err := o.Plan(ctx, subscriber, operations.MoveTarget{Sequence: sequence}, forwards)
	if err != nil || forwards && !h.skippable(plan.To) {
		return false
	}
	_, err = o.Move(ctx, plan)
	return err == nil
}

// skippable reports whether the subscriber has handled every event that was published up to a position, also the events of removed
// messages. It returns false for a removed message: if the stream lost its end there, a lane would miss events that are redriven before
// that position.
func (h *harness) skippable(to inbox.StreamPosition) bool {
	if to.Progress == 0 || to.StoredAt.IsZero() {
		return false
	}
	for _, entry := range h.log[h.purged:] {
		before := entry.Position <= to.Progress && !h.parked[entry.Position]
		if at := h.redriven[entry.Position]; at > 0 { // the relay may have been sent back to an earlier position since then
			before = at <= to.Sequence
		}
		if before && !h.dealtWith(inbox.Event{Entry: entry}) {
			return false
		}
	}
	for _, message := range h.messages() {
		if event := message.Event; event != nil && message.Sequence <= to.Sequence && !h.dealtWith(*event) {
			return false
		}
	}
	return true
}

// dealtWith reports whether the subscriber has applied an event or has its letter.
func (h *harness) dealtWith(event inbox.Event) bool {
	if h.inbox.Applied(subscriber, event.ID) {
		return true
	}
	_, err := h.inbox.Letter(h.t.Context(), subscriber, event.ID)
	return err == nil
}

// forgetAnother forgets another subscriber while a copy of it works, and checks that the copy ends. The subscriber may begin again later.
func (h *harness) forgetAnother() {
	const mortal = "mortal"
	doomed, ended := h.launch(mortal)
	defer doomed.cancel()
	pass(time.Duration(h.below(3000)) * time.Millisecond)
	o := h.operator()
	until := func(done func() error) {
		for err := done(); err != nil && !errors.Is(err, inbox.ErrNoSubscriber); err = done() {
			pass(time.Second)
		}
	}
	known := true
	until(func() error {
		_, err := o.Forget(h.t.Context(), mortal)
		known = err == nil
		return err
	})
	if !known { // it had not begun
		return
	}
	before := len(h.inbox.History(mortal))
	pass(15 * time.Second)
	select {
	case err := <-ended:
		if !errors.Is(err, inbox.ErrForgotten) {
			h.violation = fmt.Sprintf(checkForgotten+": its copy ended with %v", err)
		}
	default:
		h.violation = checkForgotten + ": its copy works on"
	}
	if after := len(h.inbox.History(mortal)); after != before {
		h.violation = fmt.Sprintf(checkForgotten+": %d events took effect", after-before)
	}
	until(func() error { return o.RemoveTombstone(h.t.Context(), mortal) })
	h.note("ended for ever")
}
