package subscribing_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	subscriber = "billing"
	ackWait    = 30 * time.Second
)

var errCut = fault.New(fault.Unavailable, "line_cut", "the line is cut")

// handlerFunc is a handler.
type handlerFunc func(ctx context.Context, entry outbox.Entry) error

func (f handlerFunc) Handle(ctx context.Context, entry outbox.Entry) error { return f(ctx, entry) }

// handled remembers what a handler was given, and when.
type handled struct {
	mu        sync.Mutex
	positions []outbox.Position
	at        []time.Time
}

// note returns how often the handler was called, this time included.
func (h *handled) note(entry outbox.Entry) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.positions = append(h.positions, entry.Position)
	h.at = append(h.at, time.Now())
	return len(h.at)
}

func (h *handled) all() []outbox.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.positions)
}

// waits are the times between the calls.
func (h *handled) waits() []time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var waits []time.Duration
	for i := 1; i < len(h.at); i++ {
		waits = append(waits, h.at[i].Sub(h.at[i-1]))
	}
	return waits
}

// start runs a loop with dead letters of its own and returns how to stop it. Whatever happens, Run answers nil.
func start(t *testing.T, source inbox.Source, handler inbox.Handler, opts subscribing.Options, logs *lines) (stop func()) {
	t.Helper()
	return startWith(t, source, handler, memory.NewInbox(), opts, logs)
}

func startWith(
	t *testing.T, source inbox.Source, handler inbox.Handler, letters inbox.DeadLetters, opts subscribing.Options, logs *lines,
) (stop func()) {
	t.Helper()
	opts.Command = typed
	return running(t, subscribing.NewLoop(subscriber, source, handler, letters, opts, slog.New(logs)).Run)
}

func startRetrier(t *testing.T, letters inbox.DeadLetters, handler inbox.Handler, opts subscribing.Options, logs *lines) (stop func()) {
	t.Helper()
	opts.Command = typed
	return running(t, subscribing.NewRetrier(subscriber, letters, handler, opts, slog.New(logs)).Run)
}

func typed(verb, subscriber, event string) string { return verb + " " + event + " of " + subscriber }

func running(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-ended)
	}
}

// pass lets fake time go by until everything that happens meanwhile has happened.
func pass(by time.Duration) {
	time.Sleep(by)
	synctest.Wait()
}

func newStream(t *testing.T) *memory.Stream {
	t.Helper()
	stream := memory.NewStream()
	_, err := stream.Open(t.Context(), 1)
	require.NoError(t, err)
	return stream
}

func publish(t *testing.T, stream *memory.Stream, entries ...outbox.Entry) {
	t.Helper()
	_, err := stream.Publish(t.Context(), stream.Len(), entries)
	require.NoError(t, err)
}

// streamOf is a stream with n events at the positions 1 to n.
func streamOf(t *testing.T, n int) *memory.Stream {
	t.Helper()
	stream := newStream(t)
	publish(t, stream, outboxtest.NewEntries(0, n)...)
	return stream
}

func sourceOf(stream *memory.Stream) inbox.Source {
	return memory.NewSource(stream, subscriber, ackWait)
}

// faulty is a source whose calls fail when the hooks say so. A hook that is nil never fails.
type faulty struct {
	inbox.Source
	next, ack, extend, retry func() error
}

func fails(hook func() error) error {
	if hook == nil {
		return nil
	}
	return hook()
}

func (f *faulty) Next(ctx context.Context) (inbox.Delivery, error) {
	if err := fails(f.next); err != nil {
		return nil, err
	}
	delivery, err := f.Source.Next(ctx)
	return faultyDelivery{delivery, f}, err
}

type faultyDelivery struct {
	inbox.Delivery
	f *faulty
}

func (d faultyDelivery) Ack(ctx context.Context) error {
	if err := fails(d.f.ack); err != nil {
		return err
	}
	return d.Delivery.Ack(ctx)
}

func (d faultyDelivery) Extend(ctx context.Context) error {
	if err := fails(d.f.extend); err != nil {
		return err
	}
	return d.Delivery.Extend(ctx)
}

func (d faultyDelivery) Retry(ctx context.Context, after time.Duration) error {
	if err := fails(d.f.retry); err != nil {
		return err
	}
	return d.Delivery.Retry(ctx, after)
}

// once fails the first call.
func once() func() error {
	called := false
	return func() error {
		if called {
			return nil
		}
		called = true
		return errCut
	}
}

// lines keeps what was logged.
type lines struct {
	mu  sync.Mutex
	all []line
}

type line struct {
	level slog.Level
	text  string
	attrs map[string]any
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }

func (l *lines) Handle(_ context.Context, record slog.Record) error {
	logged := line{level: record.Level, text: record.Message, attrs: make(map[string]any)}
	record.Attrs(func(attr slog.Attr) bool {
		logged.attrs[attr.Key] = attr.Value.Any()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, logged)
	return nil
}

// at returns the lines of a level.
func (l *lines) at(level slog.Level) []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []line
	for _, logged := range l.all {
		if logged.level == level {
			found = append(found, logged)
		}
	}
	return found
}
