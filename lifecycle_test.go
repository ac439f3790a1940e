package outboxie_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie"
)

// TestLateDeclarations checks that nothing can be declared after Admin, while the engine runs, or after Close, and that Run runs once.
func TestLateDeclarations(t *testing.T) {
	w := newWorld(t)
	e := w.unprepared()
	h := outboxie.NewHandler("h").Handle(issued, func(context.Context, *outboxie.Tx, outboxie.Received) error { return nil })
	refused := func(want error) {
		t.Helper()
		_, admin := e.Admin(outboxie.AdminOptions{Token: token})
		for _, err := range []error{e.Relay(), e.Subscriber("s", h, outboxie.SubscriberOptions{}), admin} {
			if want == nil {
				require.ErrorContains(t, err, "before the admin handler")
				continue
			}
			require.ErrorIs(t, err, want)
		}
	}
	require.NoError(t, e.Subscriber("first", h, outboxie.SubscriberOptions{}))
	_, err := e.Admin(outboxie.AdminOptions{Token: token, Open: true})
	require.ErrorContains(t, err, "both a token and Open")
	_, err = e.Admin(outboxie.AdminOptions{Token: token, ReadToken: "short"})
	require.ErrorContains(t, err, "must be 16 to 200")
	_, err = e.Admin(outboxie.AdminOptions{Token: token, ReadToken: token})
	require.ErrorContains(t, err, "the token that may only read is the admin token")
	_, err = e.Admin(outboxie.AdminOptions{Open: true, ReadToken: token})
	require.ErrorContains(t, err, "nobody needs a token")
	_, err = e.Admin(outboxie.AdminOptions{Token: token})
	require.NoError(t, err)
	refused(nil)
	require.ErrorIs(t, e.Run(t.Context()), outboxie.ErrNotMigrated)
	require.NoError(t, e.Migrate(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(t.Context()) }()
	require.Eventually(t, func() bool { return errors.Is(e.Relay(), outboxie.ErrStarted) }, patience, time.Millisecond)
	refused(outboxie.ErrStarted)
	require.ErrorIs(t, e.Run(t.Context()), outboxie.ErrStarted)
	e.Close()
	require.ErrorIs(t, <-ended, outboxie.ErrClosed)
	e.Close()
	refused(outboxie.ErrClosed)
	require.ErrorIs(t, e.Run(t.Context()), outboxie.ErrClosed)
	require.ErrorIs(t, e.Migrate(t.Context()), outboxie.ErrClosed)
	e.Outbox().Wake() // does nothing
}

// TestConcurrentDeclarations checks that of many declarations of one part at the same time one succeeds.
func TestConcurrentDeclarations(t *testing.T) {
	w := newWorld(t)
	e := w.unprepared()
	h := outboxie.NewHandler("h").Handle(issued, func(context.Context, *outboxie.Tx, outboxie.Received) error { return nil })
	var relays, subscribers atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if e.Relay() == nil {
				relays.Add(1)
			}
			if e.Subscriber("s", h, outboxie.SubscriberOptions{}) == nil {
				subscribers.Add(1)
			}
			e.RelayStatus()
		})
	}
	all.Wait()
	require.EqualValues(t, 1, relays.Load())
	require.EqualValues(t, 1, subscribers.Load())
}

// TestExternalCallEnds checks that the context of an external call ends after two fifths of the idle timeout, and that the call then is a
// failure of its event only.
func TestExternalCallEnds(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	took := make(chan time.Duration, 10)
	h := outboxie.NewExternalHandler("h")
	outboxie.OnExternal(h, issued, func(ctx context.Context, _ outboxie.Received, data invoice) error {
		if data.Customer == "bad" {
			began := time.Now()
			<-ctx.Done()
			took <- time.Since(began)
		}
		return ctx.Err()
	})
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{IdleTimeout: 2 * time.Second, MaxAttempts: 1}))
	w.issue(e, "1", "ada", 1)
	w.issue(e, "2", "bad", 1)
	w.issue(e, "3", "bob", 1)
	w.run(e)
	w.handled("1 3", "2")
	require.Less(t, <-took, 1500*time.Millisecond)
}

// TestExternalMiddleware checks that middleware of an external handler is wrapped once around each function, also around those that are set
// later, the first one outermost; that it sees the event and the function's error; and that it can fail an event without a call.
func TestExternalMiddleware(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	steps, wraps := make(chan string, 100), 0
	named := func(name string) outboxie.ExternalMiddleware {
		return func(next outboxie.ExternalFunc) outboxie.ExternalFunc {
			wraps++
			return func(ctx context.Context, event outboxie.Received) error {
				steps <- name + " " + event.Aggregate.ID
				if event.Aggregate.ID == "2" && name == "inner" {
					return outboxie.Permanent(errors.New("no call"))
				}
				return next(ctx, event)
			}
		}
	}
	h := outboxie.NewExternalHandler("h").Use(named("outer"), named("inner"))
	outboxie.OnExternal(h, issued, func(_ context.Context, event outboxie.Received, _ invoice) error {
		steps <- "call " + event.Aggregate.ID
		return nil
	})
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}))
	w.issue(e, "1", "ada", 1)
	w.issue(e, "2", "bad", 1)
	w.run(e)
	w.handled("1", "2")
	require.Equal(t, 2, wraps, "once for each middleware: there is one function")
	close(steps)
	var seen []string
	for step := range steps {
		seen = append(seen, step)
	}
	require.Subset(t, seen, []string{"outer 1", "inner 1", "call 1", "outer 2", "inner 2"})
	require.NotContains(t, seen, "call 2")
	require.Equal(t, []string{"outer 1", "inner 1", "call 1"}, slices.DeleteFunc(seen, func(step string) bool { return step[len(step)-1] == '2' }))
}

// TestCloseWaitsForHandlers checks that Close ends Run while a handler works: the handler's context ends, and Close returns after the handler.
func TestCloseWaitsForHandlers(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	called, returned := make(chan struct{}, 10), atomic.Bool{}
	h := outboxie.NewHandler("h").Handle(issued, func(ctx context.Context, _ *outboxie.Tx, _ outboxie.Received) error {
		called <- struct{}{}
		<-ctx.Done()
		returned.Store(true)
		return ctx.Err()
	})
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(t.Context()) }()
	w.issue(e, "1", "ada", 1)
	<-called
	e.Close()
	require.True(t, returned.Load())
	require.ErrorIs(t, <-ended, outboxie.ErrClosed)
}

// TestMarksOfNil checks that a function may mark the result of a call without looking whether it failed.
func TestMarksOfNil(t *testing.T) {
	require.NoError(t, outboxie.Permanent(nil))
	require.NoError(t, outboxie.Unavailable(nil))
}

// TestMethodsWinOverTheEnvironment checks that a method of the Builder counts, and not the variable, in whichever order they are given.
func TestMethodsWinOverTheEnvironment(t *testing.T) {
	wrong := []string{"DATABASE_URL=nonsense", "STREAM_NAME=A.B", "STREAM_SUBJECTS=x", "EVENT_SOURCE=a b", "NATS_URL=nonsense"}
	methods := func(b *outboxie.Builder) *outboxie.Builder {
		return b.Database("postgres://127.0.0.1:1/billing").NATS("nats://127.0.0.1:1").Stream("INVOICES", "invoices.>").Source("/acme/billing")
	}
	for _, b := range []*outboxie.Builder{methods(outboxie.Configure().Environment(wrong)), methods(outboxie.Configure()).Environment(wrong)} {
		e, err := b.Logger(slog.New(slog.DiscardHandler)).Build()
		require.NoError(t, err)
		e.Close()
	}
	_, err := outboxie.Configure().Environment(wrong).Build()
	require.ErrorContains(t, err, "DATABASE_URL")
}

// TestOneStreamForAnOutbox checks that the relay of another stream is refused, also if both start at the same time, and that schemas separate
// two services in one database.
func TestOneStreamForAnOutbox(t *testing.T) {
	w := newWorld(t)
	relay := func(database, stream string) *outboxie.Engine {
		e, err := outboxie.Configure().Database(database).NATS(w.broker).Stream(stream, stream+".>").Source("/acme").
			Logger(slog.New(slog.DiscardHandler)).Build()
		require.NoError(t, err)
		t.Cleanup(e.Close)
		require.NoError(t, e.Migrate(t.Context()))
		require.NoError(t, e.Relay())
		return e
	}
	w.exec("CREATE SCHEMA one; CREATE SCHEMA two")
	ended := make(chan error, 4)
	run := func(ctx context.Context, e *outboxie.Engine) { go func() { ended <- e.Run(ctx) }() }
	ctx, stop := context.WithCancel(t.Context())
	one, two := relay(w.database+"&search_path=one", "ONE"), relay(w.database+"&search_path=two", "TWO")
	run(ctx, one)
	run(ctx, two)
	require.Eventually(t, func() bool { return one.RelayStatus().Leading && two.RelayStatus().Leading }, patience, 10*time.Millisecond)
	err := relay(w.database+"&search_path=one", "OTHER").Run(t.Context())
	require.ErrorContains(t, err, "the outbox belongs to the stream ONE, and this relay publishes to OTHER")
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, <-ended)

	run(t.Context(), relay(w.database, "THREE"))
	run(t.Context(), relay(w.database, "FOUR"))
	require.ErrorContains(t, <-ended, "the outbox belongs to the stream")
}
