package jetstream_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// within limits every call that waits for the broker. On a busy machine, an answer may take up to slack longer.
const (
	within = 5 * time.Second
	slack  = 3 * time.Second
)

// drivenPorts are the ports that the NATS adapter implements.
var drivenPorts = []reflect.Type{
	reflect.TypeFor[relay.StreamRepair](), reflect.TypeFor[relay.Finder](), reflect.TypeFor[relay.Notifier](), reflect.TypeFor[relay.Listener](),
	reflect.TypeFor[inbox.Stream](),
}

// deadConnection has one client of each kind, all connected before the broker stops answering.
type deadConnection struct {
	publisher *jetstream.Publisher
	finder    *jetstream.Finder
	notifier  *jetstream.Notifier
	consumers *jetstream.SubscriberLags
	reader    *jetstream.Reader
}

func newDeadConnection(t *testing.T) (*deadConnection, *infra.Proxy) {
	t.Helper()
	s := newReading(t)
	s.Append(t, relaytest.NewEntries(0, 2)...)
	parsed, err := url.Parse(s.server.URL)
	require.NoError(t, err)
	proxy := infra.NewProxy(t, parsed.Host)
	nc, err := jetstream.Connect(jetstream.Options{URL: "nats://" + proxy.Addr(), Name: t.Name(), Logger: silent})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	options := jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent}
	publisher, err := jetstream.NewPublisher(nc, options)
	require.NoError(t, err)
	finder, err := jetstream.NewFinder(nc, options)
	require.NoError(t, err)
	consumers, err := jetstream.NewSubscriberLags(nc, stream, subjects)
	require.NoError(t, err)
	quiet := &deadConnection{publisher: publisher, finder: finder, consumers: consumers, notifier: jetstream.NewNotifier(nc, stream, silent)}
	quiet.reader = newReader(t, nc, silent)
	_, err = publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	_, err = quiet.reader.Read(t.Context(), 1, everything)
	require.NoError(t, err)
	return quiet, proxy
}

// calls returns a call of every method of the ports. A call that asks the broker nothing, or only sends, returns nil.
func (s *deadConnection) calls() map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"relay.StreamRepair.Open":  func(ctx context.Context) error { _, err := s.publisher.Open(ctx, 1); return err },
		"relay.StreamRepair.Raise": func(ctx context.Context) error { _, err := s.publisher.Raise(ctx, 100); return err },
		"relay.StreamRepair.Look":  func(ctx context.Context) error { _, err := s.publisher.Look(ctx); return err },
		"relay.StreamRepair.At":    func(ctx context.Context) error { _, err := s.publisher.At(ctx, 1); return err },
		"relay.StreamRepair.Publish": func(ctx context.Context) error {
			_, err := s.publisher.Publish(ctx, 2, relaytest.NewEntries(2, 20))
			return err
		},
		"relay.StreamRepair.Redrive": func(ctx context.Context) error {
			_, err := s.publisher.Redrive(ctx, 2, outbox.Progress{}, relaytest.NewEntries(2, 2))
			return err
		},
		"relay.StreamRepair.PublishControl": func(ctx context.Context) error {
			_, err := s.publisher.PublishControl(ctx, 2, relay.ControlMessage{})
			return err
		},
		"relay.Finder.Find": func(ctx context.Context) error {
			_, err := s.finder.Find(ctx, outbox.Progress{Position: 1}, 0)
			return err
		},
		"inbox.Stream.Read":            func(ctx context.Context) error { _, err := s.reader.Read(ctx, 1, everything); return err },
		"inbox.Stream.State":           func(ctx context.Context) error { _, err := s.reader.State(ctx); return err },
		"inbox.Stream.LegacyConsumer":  func(ctx context.Context) error { _, _, err := s.reader.LegacyConsumer(ctx); return err },
		"inbox.Stream.Stored":          func(context.Context) error { s.reader.Stored(); return nil },
		"relay.Notifier.Notify":        func(context.Context) error { s.notifier.Notify(); return nil },
		"relay.Listener.Notifications": func(context.Context) error { s.notifier.Notifications(); return nil },
	}
}

// sends are the calls that wait for no answer.
var sends = []string{"relay.Notifier.Notify", "relay.Listener.Notifications", "inbox.Stream.Stored"}

// TestEveryCallEnds checks that every method of every port returns in time when the connection to the broker is a black hole. A
// call that waits for an answer reports that the broker is unavailable.
func TestEveryCallEnds(t *testing.T) {
	quiet, proxy := newDeadConnection(t)
	calls := quiet.calls()
	var methods []string
	for _, port := range drivenPorts {
		for i := range port.NumMethod() {
			methods = append(methods, fmt.Sprint(port, ".", port.Method(i).Name))
		}
	}
	require.ElementsMatch(t, methods, slices.Collect(maps.Keys(calls)), "a method that is new has to be given arguments here")
	calls["Consumers.Lags"] = func(ctx context.Context) error { _, err := quiet.consumers.Lags(ctx); return err }
	calls["Consumers.LagOf"] = func(ctx context.Context) error { _, _, err := quiet.consumers.LagOf(ctx, 1); return err }

	running, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- quiet.notifier.Run(running) }()
	proxy.SilenceAll()
	type answer struct {
		name string
		err  error
		took time.Duration
	}
	answers := make(chan answer, len(calls))
	for name, call := range calls {
		go func() {
			start := time.Now()
			err := call(t.Context())
			answers <- answer{name, err, time.Since(start)}
		}()
	}
	late := time.After(within + slack)
	for range len(calls) {
		select {
		case got := <-answers:
			delete(calls, got.name)
			if slices.Contains(sends, got.name) {
				require.NoError(t, got.err, got.name)
				require.Less(t, got.took, slack, got.name)
			} else {
				require.Equal(t, fault.Unavailable, fault.KindOf(got.err), "%s: %v", got.name, got.err)
			}
		case <-late:
			require.FailNow(t, "these still wait", "%v", slices.Collect(maps.Keys(calls)))
		}
	}
	stop()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(within):
		require.FailNow(t, "the notifier still runs")
	}
	start := time.Now()
	quiet.reader.Close()
	require.Less(t, time.Since(start), slack)
}
