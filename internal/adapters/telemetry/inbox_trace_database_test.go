package telemetry_test

import (
	"context"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// database is a fake of the inbox ports. It calls the handler as the ports promise, and stores nothing.
type database struct {
	results map[string]inbox.Result // by event id; the handler does not get these events
	letters []inbox.Event           // the letters that are due
	err     error                   // returned at the end of each call, as the error of the commit
	in      context.Context         // the context of the last call
	handler inbox.Handler           // the handler of the last call
}

func inboxOf(d *database) telemetry.InboxPorts { return telemetry.InboxPorts{Work: d, Letters: d} }

func (d *database) Apply(
	ctx context.Context, _ string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	d.in, d.handler = ctx, handler
	outcome := inbox.Outcome{Checkpoint: batch.From, Results: make([]inbox.Result, len(batch.Events))}
	outcome.Checkpoint.StreamPosition = batch.To
	for i, event := range batch.Events {
		if result, known := d.results[event.ID]; known {
			outcome.Results[i] = result
			continue
		}
		letter, err := handle(ctx, i, event, handler, judge)
		if err != nil {
			return inbox.Outcome{}, err
		}
		if letter != nil {
			outcome.Results[i] = inbox.SetAside
			outcome.Letters = append(outcome.Letters, *letter)
		}
	}
	if d.err != nil {
		return inbox.Outcome{}, d.err
	}
	return outcome, nil
}

func (d *database) Redeliver(
	ctx context.Context, _ string, _ inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Redelivered, bool, error) {
	d.in, d.handler = ctx, handler
	var done inbox.Redelivered
	for i, event := range d.letters {
		letter, err := handle(ctx, i, event, handler, judge)
		if err != nil {
			return inbox.Redelivered{}, false, err
		}
		if letter != nil {
			done.Failed = letter
			break
		}
		done.Applied = append(done.Applied, event.Entry)
	}
	if d.err != nil {
		return inbox.Redelivered{}, false, d.err
	}
	return done, len(d.letters) > 0, nil
}

// handle calls handler for one event. If the event is suspect, the call runs in a savepoint.
func handle(
	ctx context.Context, index int, event inbox.Event, handler inbox.Handler, judge inbox.FailurePolicy,
) (letter *inbox.Letter, err error) {
	err = func() (err error) {
		defer func() {
			if reason := recover(); reason != nil {
				err = fmt.Errorf("the handler panicked: %v", reason)
			}
		}()
		return handler.Handle(ctx, nil, event.Entry)
	}()
	switch {
	case err == nil:
		return nil, nil
	case !event.Suspect:
		return nil, &inbox.EventError{Index: index, Err: err}
	}
	failure, err := judge(event.Entry, 0, err)
	if err != nil {
		return nil, err
	}
	failed := inbox.Letter{Entry: event.Entry}.Failed(failure)
	return &failed, nil
}

// lenient is a failure policy that lets a failed event be tried again.
func lenient(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
	return inbox.Failure{Cause: err, Limit: 10}, nil
}

// strict is a failure policy that ends the transaction at the first failure.
func strict(_ outbox.Entry, _ int, err error) (inbox.Failure, error) { return inbox.Failure{}, err }

// handlerFunc is a handler whose Applied does nothing.
type handlerFunc func(ctx context.Context, entry outbox.Entry) error

func (f handlerFunc) Handle(ctx context.Context, _ inbox.Tx, entry outbox.Entry) error {
	return f(ctx, entry)
}
func (handlerFunc) Name() string    { return "test" }
func (handlerFunc) Types() []string { return nil }
func (handlerFunc) External() bool  { return false }

func (f handlerFunc) Applied(context.Context, outbox.Entry) {}

// failing is a handler that returns the error of the event's id, if there is one.
type failing map[string]error

func (failing) Name() string    { return "test" }
func (failing) Types() []string { return nil }
func (failing) External() bool  { return false }

func (f failing) Handle(_ context.Context, _ inbox.Tx, entry outbox.Entry) error { return f[entry.ID] }
func (f failing) Applied(context.Context, outbox.Entry)                          {}

// delivered returns the events e1, e2 and so on, with these headers.
func delivered(headers ...map[string]string) []inbox.Event {
	events := make([]inbox.Event, len(headers))
	for i, h := range headers {
		events[i] = inbox.Event{
			Entry: outbox.Entry{
				Message: message(fmt.Sprintf("e%d", i+1), h), Position: outbox.Position(41 + i), RecordedAt: time.Now().Add(-time.Second),
			},
			Sequence: uint64(7 + i),
		}
	}
	return events
}

// batchIn returns a batch of a lane.
func batchIn(lane int, events []inbox.Event) inbox.Batch {
	return inbox.Batch{
		From:   inbox.Checkpoint{Lane: lane, Lanes: 4, Revision: 3},
		To:     inbox.StreamPosition{Sequence: uint64(6 + len(events))},
		Events: events,
	}
}
