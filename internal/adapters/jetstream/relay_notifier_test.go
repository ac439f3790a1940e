package jetstream_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/modules"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestWakeUpsAreNotStored checks that the stream does not store wake-ups: they would be foreign messages at the tail.
func TestWakeUpsAreNotStored(t *testing.T) {
	b := newNotifiers(t)
	publisher := b.opened()
	b.Notifier().Notify()
	requireNotified(t, b.Other())
	info, err := publisher.Open(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, info.LastSequence)
}

// TestWakeUpsAreFew checks that many calls of Notify send at most one message every two milliseconds.
func TestWakeUpsAreFew(t *testing.T) {
	b := newNotifiers(t)
	heard, err := b.connect().SubscribeSync("outboxie.ORDERS.wake")
	require.NoError(t, err)
	b.settled(t)
	start := time.Now()
	for time.Since(start) < 50*time.Millisecond {
		b.Notifier().Notify()
	}
	most := int(time.Since(start)/(2*time.Millisecond)) + 2
	count := 0
	for {
		if _, err := heard.NextMsg(100 * time.Millisecond); err != nil {
			break
		}
		count++
	}
	require.Positive(t, count)
	require.LessOrEqual(t, count, most)
}

// TestCallerWakesTheRelays checks that a RemoteNotifier wakes all relays, and that it does not block when its connection is
// closed.
func TestCallerWakesTheRelays(t *testing.T) {
	b := newNotifiers(t)
	nc := b.connect()
	caller := jetstream.NewRemoteNotifier(nc, "ORDERS", silent)
	caller.Notify()
	requireNotified(t, b.Notifier())
	requireNotified(t, b.Other())
	nc.Close()
	caller.Notify()
}

// TestNotifierIgnoresItself checks that a notification wakes the notifier's own relay only once, although NATS delivers it to
// all instances.
func TestNotifierIgnoresItself(t *testing.T) {
	b := newNotifiers(t)
	b.Notifier().Notify()
	requireNotified(t, b.Notifier())
	requireNotified(t, b.Other())
	select {
	case <-b.Notifier().Notifications():
		require.Fail(t, "the notifier heard its own call")
	case <-time.After(100 * time.Millisecond):
	}
}

// TestLastNotificationIsSent checks that the notification of a relay that resigns and stops still arrives.
func TestLastNotificationIsSent(t *testing.T) {
	b := newNotifiers(t)
	notifier := jetstream.NewNotifier(b.connect(), stream, silent)
	notifier.Notify()
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, notifier.Run(ended))
	requireNotified(t, b.Other())
}

func requireNotified(t *testing.T, listener relay.Listener) {
	t.Helper()
	select {
	case <-listener.Notifications():
	case <-time.After(patience):
		require.FailNow(t, "the notification was lost")
	}
}

func TestConnectSaysWhatIsWrong(t *testing.T) {
	_, err := jetstream.Connect(jetstream.Options{URL: "nats://user:secret@127.0.0.1:no-port", Logger: silent})
	require.Equal(t, fault.Invalid, fault.KindOf(err), "%v", err)
	require.NotContains(t, err.Error(), "secret")
}

func TestModule(t *testing.T) {
	b := newBroker(t)
	b.opened() // the goroutines of the server for the stream are not under test
	before := goleak.IgnoreCurrent()
	var nc *nats.Conn
	app := fxtest.New(t, modules.JetStream,
		fx.Supply(jetstream.Options{URL: b.server.URL, Name: "module", Logger: silent},
			jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent}),
		fx.Invoke(func(c *nats.Conn, publisher relay.Publisher, port relay.Notifier, listener relay.Listener, notifier *jetstream.Notifier) {
			nc = c
			_, err := publisher.Open(t.Context(), 1)
			require.NoError(t, err)
			port.Notify()
			requireNotified(t, listener)
			require.Same(t, notifier, port)
		}),
	)
	app.RequireStart().RequireStop()
	require.True(t, nc.IsClosed())
	goleak.VerifyNone(t, before)
}
