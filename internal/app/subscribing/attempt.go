package subscribing

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// How long and how often an event is tried, unless Options say otherwise. With these, an event that fails every time is
// dead after 51 seconds.
const (
	DefaultMinBackoff  = 100 * time.Millisecond
	DefaultMaxBackoff  = 30 * time.Second
	DefaultMaxAttempts = 10
)

// Options are the settings of a Loop and of a Retrier. Zero values mean the defaults.
type Options struct {
	MinBackoff  time.Duration // the wait after a first failure; it doubles with every further one
	MaxBackoff  time.Duration // the longest wait
	MaxAttempts int           // an event that has failed so often is dead
	Poll        time.Duration // how often a Retrier looks; a second by default

	// Command returns what an operator types to decide about a dead letter: the verb is "retry" or "discard". The log holds it.
	Command func(verb, subscriber, event string) string
}

func (o Options) orDefault() Options {
	if o.MinBackoff <= 0 {
		o.MinBackoff = DefaultMinBackoff
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = DefaultMaxBackoff
	}
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = DefaultMaxAttempts
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Command == nil {
		o.Command = func(verb, _, _ string) string { return verb }
	}
	return o
}

// backoff is the wait after a number of failures in a row.
func (o Options) backoff(failures int) time.Duration {
	wait := o.MinBackoff
	for range failures - 1 {
		if wait >= o.MaxBackoff/2 {
			return o.MaxBackoff
		}
		wait *= 2
	}
	return min(wait, o.MaxBackoff)
}

// attempt runs the handler and makes a panic an error: an event that makes the handler panic would else end every copy of
// the subscriber, one after the other, for ever.
func attempt(ctx context.Context, handler inbox.Handler, entry outbox.Entry) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", reason, debug.Stack())
		}
	}()
	return handler.Handle(ctx, entry)
}

func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
