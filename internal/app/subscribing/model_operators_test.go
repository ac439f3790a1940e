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

// noLags says nothing about lags.
type noLags struct{}

func (noLags) Behind(context.Context, []operations.SubscriberProgress) ([]operations.Lag, error) {
	return nil, nil
}

func (noLags) Lags(context.Context) ([]operations.Lag, error) { return nil, nil }

// operator is the administration of the world's subscribers. It sees the stream as a copy does: its servers may lag.
func (w *world) operator() *operating.Subscribers {
	reader := memory.NewReader(w.stream, subscriber)
	if !w.calmed() {
		reader.Behind = func() uint64 { return w.behind("lagging read") }
	}
	return operating.NewSubscribers(operating.SubscriberPorts{Operator: memory.NewOperator(w.inbox), Stream: reader, Lags: noLags{}, Log: w.inbox})
}

// operate is what an operator decides about the subscriber as a whole.
func (w *world) operate() {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	o := w.operator()
	switch w.dice(6) {
	case 0, 1:
		if o.Pause(ctx, subscriber) == nil {
			w.note("paused")
			w.rest()
		}
		for o.Resume(w.t.Context(), subscriber) != nil {
			pass(time.Second)
		}
	case 2, 3:
		if _, _, err := o.SetLanes(ctx, subscriber, 1+w.dice(9)); err == nil {
			w.note("lanes changed")
		}
	case 4:
		if w.move(ctx, o, uint64(w.dice(int(w.stream.Len())+1)), false) {
			w.note("rewound")
		}
	case 5:
		if w.move(ctx, o, uint64(w.dice(int(w.stream.Len())+1)), true) {
			w.note("skipped")
		}
	}
}

// rest lets time go by while the subscriber is paused, and notes what takes effect meanwhile.
func (w *world) rest() {
	before, calls := len(w.inbox.History(subscriber)), w.called()
	pass(time.Duration(w.dice(3000)) * time.Millisecond)
	if after := len(w.inbox.History(subscriber)); after != before {
		w.restless = fmt.Sprintf(checkPaused+": %d events took effect", after-before)
	}
	if after := w.called(); after != calls {
		w.restless = fmt.Sprintf(checkPaused+": %d calls", after-calls)
	}
}

// move sends lanes to a sequence. What is skipped was dealt with, so that it can be told from what is lost.
func (w *world) move(ctx context.Context, o *operating.Subscribers, sequence uint64, forwards bool) bool {
	plan, err := o.Plan(ctx, subscriber, operations.MoveTarget{Sequence: sequence}, forwards)
	if err != nil || forwards && !w.skippable(plan.To) {
		return false
	}
	_, err = o.Move(ctx, plan)
	return err == nil
}

// skippable reports whether the subscriber has dealt with every event that was published up to a place, also with those that were removed. A
// lane at a removed message would miss what is redriven into an earlier one, if the stream loses its end before the lane goes on.
func (w *world) skippable(to inbox.StreamPosition) bool {
	if to.Progress == 0 || to.StoredAt.IsZero() {
		return false
	}
	for _, entry := range w.log[w.purged:to.Progress] {
		later := w.parked[entry.Position] || w.redriven[entry.Position] > to.Sequence
		if !later && !w.dealtWith(inbox.Event{Entry: entry}) {
			return false
		}
	}
	for _, message := range w.messages() {
		if event := message.Event; event != nil && message.Sequence <= to.Sequence && !w.dealtWith(*event) {
			return false
		}
	}
	return true
}

// dealtWith reports whether the subscriber knows an event.
func (w *world) dealtWith(event inbox.Event) bool {
	if w.inbox.Applied(subscriber, event.ID) {
		return true
	}
	_, err := w.inbox.Letter(w.t.Context(), subscriber, event.ID)
	return err == nil
}

// bury forgets another subscriber than the one that is judged, beside a copy that works, and lets it begin again some time.
func (w *world) bury() {
	const mortal = "mortal"
	doomed, ended := w.launch(mortal)
	defer doomed.cancel()
	pass(time.Duration(w.dice(3000)) * time.Millisecond)
	o := w.operator()
	until := func(done func() error) {
		for err := done(); err != nil && !errors.Is(err, inbox.ErrNoSubscriber); err = done() {
			pass(time.Second)
		}
	}
	known := true
	until(func() error {
		_, err := o.Forget(w.t.Context(), mortal)
		known = err == nil
		return err
	})
	if !known { // it had not begun
		return
	}
	before := len(w.inbox.History(mortal))
	pass(15 * time.Second)
	select {
	case err := <-ended:
		if !errors.Is(err, inbox.ErrForgotten) {
			w.restless = fmt.Sprintf(checkForgotten+": its copy ended with %v", err)
		}
	default:
		w.restless = checkForgotten + ": its copy works on"
	}
	if after := len(w.inbox.History(mortal)); after != before {
		w.restless = fmt.Sprintf(checkForgotten+": %d events took effect", after-before)
	}
	until(func() error { return o.Lift(w.t.Context(), mortal) })
	w.note("ended for ever")
}
