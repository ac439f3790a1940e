// Package subscribing is what a subscriber does with events: take the next one, apply its effect once, acknowledge it.
//
// Every retry decision of a subscriber lives here. An event that cannot be handled holds up those behind it, with growing
// waits and an error in the log each time, until it has failed too often. Then it is a dead letter, and later events of its
// aggregate wait behind it while all others flow. The order within an aggregate is kept, and none is ever dropped: a Retrier
// tries dead letters again when somebody asks for it.
package subscribing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// longestOutage is the longest wait while the source, or what the handler works on, cannot be reached. An outage says
// nothing about the event, so work goes on soon after it.
const longestOutage = time.Second

// settleTimeout bounds what is said to the source after the work on an event, so that a stop is not held up by it.
const settleTimeout = 5 * time.Second

// Loop hands the events of a source to a handler, one at a time and in order.
type Loop struct {
	subscriber string
	source     inbox.Source
	handler    inbox.Handler
	letters    inbox.DeadLetters
	opts       Options
	logger     *slog.Logger

	unfit   string // the last complaint about the source that a person has to repair, while it lasts
	outages int    // how often in a row the handler, or the dead letters, could not be reached
}

// NewLoop returns a loop of one copy of a subscriber. It does nothing until Run. The logger names the subscriber.
func NewLoop(
	subscriber string, source inbox.Source, handler inbox.Handler, letters inbox.DeadLetters, opts Options, logger *slog.Logger,
) *Loop {
	return &Loop{subscriber: subscriber, source: source, handler: handler, letters: letters, opts: opts.orDefault(), logger: logger}
}

// Run works until ctx ends; then it returns nil, once the handler has returned from the event in hand. The handler sees
// the end of ctx too: it may finish, and the event is acknowledged, or give up, and the event is handed back at once
// without counting as a failure. An outage of what the handler works on (fault.Unavailable) is no failure of the event
// either: it comes again, in a second at the latest. A panic of the handler is a failure like any other. Neither outages
// nor events that cannot be handled ever end Run. It is called once.
func (l *Loop) Run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		delivery, err := l.source.Next(ctx)
		switch {
		case err == nil:
			if failures > 0 {
				l.logger.InfoContext(ctx, "the source of events is back", "failures", failures)
			}
			failures, l.unfit = 0, ""
			l.deal(ctx, delivery)
		case ctx.Err() == nil:
			failures++
			l.outage(ctx, failures, "cannot get the next event, trying until it works", err)
			sleep(ctx, min(l.opts.backoff(failures), longestOutage))
		}
	}
	return nil
}

// outage warns once, however long it lasts. A stream that is still to come is none.
func (l *Loop) outage(ctx context.Context, failures int, what string, err error) {
	level := slog.LevelDebug
	switch {
	case errors.Is(err, inbox.ErrConsumerUnfit) && l.unfit != err.Error():
		level, l.unfit = slog.LevelError, err.Error()
	case failures > 1:
	case errors.Is(err, inbox.ErrNoStream):
		level = slog.LevelInfo
	default:
		level = slog.LevelWarn
	}
	l.logger.Log(ctx, level, what, "error", err)
}

// deal handles one delivery and tells the source what became of it.
func (l *Loop) deal(ctx context.Context, delivery inbox.Delivery) {
	entry, err := delivery.Entry()
	if err != nil {
		l.reject(ctx, delivery, err)
		return
	}
	event := attributes(entry)
	switch err := l.handle(ctx, delivery, entry); {
	case err == nil:
		if l.outages > 0 {
			l.logger.InfoContext(ctx, "events can be handled again", "failures", l.outages)
		}
		l.acknowledge(ctx, delivery, event)
	case ctx.Err() != nil:
		l.logger.InfoContext(ctx, "stopped while handling an event, which is handed back", append(event, "error", err)...)
		l.settle(ctx, "hand an event back", again(delivery, 0), event)
	case errors.Is(err, inbox.ErrHeld):
		l.setAside(ctx, delivery, entry)
	case fault.KindOf(err) == fault.Unavailable:
		l.outages++
		l.outage(ctx, l.outages, "cannot handle events at the moment, trying until it works", err)
		l.settle(ctx, "ask for an event again", again(delivery, min(l.opts.backoff(l.outages), longestOutage)), event)
	default:
		l.fail(ctx, delivery, entry, err)
	}
}

func attributes(entry outbox.Entry) []any {
	return []any{"event_id", entry.ID, "position", int64(entry.Position)}
}

func (l *Loop) acknowledge(ctx context.Context, delivery inbox.Delivery, event []any) {
	l.outages = 0
	l.settle(ctx, "acknowledge an event", delivery.Ack, event)
}

// fail counts a failure of the event. It comes again, later each time, until it is dead.
func (l *Loop) fail(ctx context.Context, delivery inbox.Delivery, entry outbox.Entry, cause error) {
	event := attributes(entry)
	letter, err := l.letters.Fail(ctx, l.subscriber, entry, inbox.Failure{Cause: cause, Limit: l.opts.MaxAttempts})
	switch {
	case err != nil:
		l.unrecorded(ctx, delivery, event, errors.Join(err, cause))
	case letter.State == inbox.Failing:
		wait := l.opts.backoff(letter.Attempts)
		l.logger.ErrorContext(ctx, "cannot handle an event, later ones wait for it",
			append(event, "attempt", letter.Attempts, "of", l.opts.MaxAttempts, "wait", wait, "error", cause)...)
		l.outages = 0
		l.settle(ctx, "ask for an event again", again(delivery, wait), event)
	default:
		report(ctx, l.logger, l.opts, l.subscriber, letter, cause)
		l.acknowledge(ctx, delivery, event)
	}
}

// setAside puts an event behind the dead one of its aggregate.
func (l *Loop) setAside(ctx context.Context, delivery inbox.Delivery, entry outbox.Entry) {
	event := attributes(entry)
	letter, err := l.letters.SetAside(ctx, l.subscriber, entry)
	if err != nil {
		l.unrecorded(ctx, delivery, event, err)
		return
	}
	report(ctx, l.logger, l.opts, l.subscriber, letter, inbox.ErrHeld)
	l.acknowledge(ctx, delivery, event)
}

// reject sets a message aside that cannot be read. Trying again would not help, and nothing depends on it. It is known by
// its place and its content, since the places of a stream that lost messages are used again.
func (l *Loop) reject(ctx context.Context, delivery inbox.Delivery, cause error) {
	message, sequence := delivery.Raw()
	digest := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", message.Subject, message.Headers, message.Payload))
	message.ID = fmt.Sprintf("unreadable-%d-%x", sequence, digest[:6])
	event := []any{"event_id", message.ID, "sequence", sequence, "subject", message.Subject}
	if err := l.letters.Reject(ctx, l.subscriber, message, cause); err != nil {
		l.unrecorded(ctx, delivery, event, errors.Join(err, cause))
		return
	}
	l.logger.ErrorContext(ctx, "a message is no event that can be read, it is set aside and everything else goes on",
		append(event, "error", cause, "discard", l.opts.Command("discard", l.subscriber, message.ID))...)
	l.acknowledge(ctx, delivery, event)
}

// unrecorded asks for an event again about which nothing could be decided.
func (l *Loop) unrecorded(ctx context.Context, delivery inbox.Delivery, event []any, err error) {
	l.outages++
	wait := l.opts.backoff(l.outages)
	if ctx.Err() != nil || fault.KindOf(err) == fault.Unavailable {
		wait = min(wait, longestOutage)
		l.outage(ctx, l.outages, "cannot set an event aside at the moment, trying until it works", err)
	} else {
		l.logger.ErrorContext(ctx, "cannot set an event aside, everything waits for it", append(event, "wait", wait, "error", err)...)
	}
	l.settle(ctx, "ask for an event again", again(delivery, wait), event)
}

// report tells what became of an event that could not be handled, and what can be done about it.
func report(ctx context.Context, logger *slog.Logger, opts Options, subscriber string, letter inbox.Letter, cause error) {
	about := append(attributes(letter.Entry), "aggregate", letter.Key.String())
	switch letter.State {
	case inbox.Dead:
		logger.ErrorContext(ctx, "an event is dead, later ones of its aggregate wait for it and all others go on",
			append(about, "attempts", letter.Attempts, "error", cause, "retry", opts.Command("retry", subscriber, letter.ID))...)
	case inbox.Waiting:
		logger.WarnContext(ctx, "an event waits behind a dead one of its aggregate", about...)
	default: // another copy was first, or an operator
		logger.InfoContext(ctx, "an event is not handled here", append(about, "state", string(letter.State))...)
	}
}

// handle runs the handler, and keeps the event from being handed out again meanwhile.
func (l *Loop) handle(ctx context.Context, delivery inbox.Delivery, entry outbox.Entry) error {
	extending, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		l.extend(extending, delivery, entry)
	}()
	defer func() { stop(); <-stopped }()
	return attempt(ctx, l.handler, entry)
}

func (l *Loop) extend(ctx context.Context, delivery inbox.Delivery, entry outbox.Entry) {
	ticker := time.NewTicker(delivery.ExtendEvery())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := delivery.Extend(ctx); err != nil && ctx.Err() == nil {
			l.logger.WarnContext(ctx, "cannot ask for more time, the event may be handled twice and counts once",
				"event_id", entry.ID, "position", int64(entry.Position), "error", err)
		}
	}
}

func again(delivery inbox.Delivery, after time.Duration) func(context.Context) error {
	return func(ctx context.Context) error { return delivery.Retry(ctx, after) }
}

// settle tells the source about an event even when ctx has ended, so that other copies of the subscriber need not wait
// for it. If it fails, the event simply comes again.
func (l *Loop) settle(ctx context.Context, what string, call func(context.Context) error, event []any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := call(ctx); err != nil {
		l.logger.WarnContext(ctx, "cannot "+what+", it will come again by itself", append(event, "error", err)...)
	}
}
