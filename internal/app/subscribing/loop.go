// Package subscribing is what a subscriber does with events: take the next one, apply its effect once, acknowledge it.
//
// Every retry decision of a subscriber lives here. An event that cannot be handled holds up those behind it, with growing
// waits and an error in the log each time: the order of events is kept, and none is ever dropped.
package subscribing

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// The bounds of every wait, unless Options say otherwise.
const (
	DefaultMinBackoff = 100 * time.Millisecond
	DefaultMaxBackoff = 30 * time.Second
)

// longestOutage is the longest wait while the source, or what the handler works on, cannot be reached. An outage says
// nothing about the event, so work goes on soon after it.
const longestOutage = time.Second

// settleTimeout bounds what is said to the source after the work on an event, so that a stop is not held up by it.
const settleTimeout = 5 * time.Second

// Options are the loop's settings. Zero values mean the defaults.
type Options struct {
	MinBackoff time.Duration // the wait after a first failure; it doubles with every further one
	MaxBackoff time.Duration // the longest wait
}

// Loop hands the events of a source to a handler, one at a time and in order.
type Loop struct {
	source  inbox.Source
	handler inbox.Handler
	opts    Options
	logger  *slog.Logger

	failing  string // the event that failed last, until it is handled
	attempts int    // how often it failed here in a row
	outages  int    // how often in a row the handler could not reach what it works on
}

// unreadable stands for the id of a message that has none.
const unreadable = "unreadable"

// NewLoop returns a loop that does nothing until Run. The logger names the subscriber.
func NewLoop(source inbox.Source, handler inbox.Handler, opts Options, logger *slog.Logger) *Loop {
	if opts.MinBackoff <= 0 {
		opts.MinBackoff = DefaultMinBackoff
	}
	if opts.MaxBackoff <= 0 {
		opts.MaxBackoff = DefaultMaxBackoff
	}
	return &Loop{source: source, handler: handler, opts: opts, logger: logger}
}

// Run works until ctx ends; then it returns nil, once the handler has returned from the event in hand. The handler sees
// the end of ctx too: it may finish, and the event is acknowledged, or give up, and the event is handed back at once
// without counting as a failure. An outage of what the handler works on (fault.Unavailable) is no failure of the event
// either: it comes again, in a second at the latest. Neither outages nor events that cannot be handled ever end Run. It
// is called once.
func (l *Loop) Run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		delivery, err := l.source.Next(ctx)
		switch {
		case err == nil:
			if failures > 0 {
				l.logger.InfoContext(ctx, "the source of events is back", "failures", failures)
			}
			failures = 0
			l.deal(ctx, delivery)
		case ctx.Err() == nil:
			failures++
			l.outage(ctx, failures, "cannot get the next event, trying until it works", err)
			sleep(ctx, min(l.backoff(failures), longestOutage))
		}
	}
	return nil
}

// outage warns once, however long it lasts. A stream that is still to come is none.
func (l *Loop) outage(ctx context.Context, failures int, what string, err error) {
	level := slog.LevelDebug
	switch {
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
		l.retry(ctx, delivery, unreadable, err)
		return
	}
	event := []any{"event_id", entry.ID, "position", int64(entry.Position)}
	switch err := l.handle(ctx, delivery, entry); {
	case err == nil:
		if l.outages > 0 {
			l.logger.InfoContext(ctx, "events can be handled again", "failures", l.outages)
		}
		l.failing, l.attempts, l.outages = "", 0, 0
		l.settle(ctx, "acknowledge an event", delivery.Ack, event)
	case ctx.Err() != nil:
		l.logger.InfoContext(ctx, "stopped while handling an event, which is handed back", append(event, "error", err)...)
		l.settle(ctx, "hand an event back", again(delivery, 0), event)
	case fault.KindOf(err) == fault.Unavailable:
		l.outages++
		l.outage(ctx, l.outages, "cannot handle events at the moment, trying until it works", err)
		l.settle(ctx, "ask for an event again", again(delivery, min(l.backoff(l.outages), longestOutage)), event)
	default:
		l.retry(ctx, delivery, entry.ID, err, event...)
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
	return l.handler.Handle(ctx, entry)
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

// retry asks for an event again that cannot be handled, later each time.
func (l *Loop) retry(ctx context.Context, delivery inbox.Delivery, id string, err error, event ...any) {
	if l.failing != id {
		l.failing, l.attempts = id, 0
	}
	l.attempts++
	wait := l.backoff(l.attempts)
	l.logger.ErrorContext(ctx, "cannot handle an event, later ones wait for it",
		append(event, "attempt", l.attempts, "wait", wait, "error", err)...)
	l.settle(ctx, "ask for an event again", again(delivery, wait), event)
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

// backoff is the wait after a number of failures in a row.
func (l *Loop) backoff(failures int) time.Duration {
	wait := l.opts.MinBackoff
	for range failures - 1 {
		if wait >= l.opts.MaxBackoff/2 {
			return l.opts.MaxBackoff
		}
		wait *= 2
	}
	return min(wait, l.opts.MaxBackoff)
}

func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
