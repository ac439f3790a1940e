package relaytest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// Notifier sends and receives notifications.
type Notifier interface {
	relay.Notifier
	relay.Listener
}

// NotifierHarness has the notifiers of two instances. Other returns nil if there is only one. When open and Reconnect return, both
// receive what the other sends.
type NotifierHarness interface {
	Connection
	Notifier() Notifier
	Other() Notifier
}

// TestNotifier runs the contract of relay.Notifier and relay.Listener. Each call of open returns notifiers without a notification.
func TestNotifier(t *testing.T, open func(t *testing.T) NotifierHarness) {
	check := contracttest.Runner(t, open)
	check("without a notification nothing arrives", func(t *testing.T, h NotifierHarness) { requireQuiet(t, h.Notifier()) })
	check("a notification arrives at every instance", notifierReaches)
	check("a notification waits until it is received", notifierWaits)
	check("many notifications become few", notifierCoalesces)
	check("during an outage Notify does not block", notifierOutage)
}

func requireNotified(t *testing.T, notifier Notifier) {
	t.Helper()
	select {
	case <-notifier.Notifications():
	case <-time.After(patience):
		require.Fail(t, "no notification arrived")
	}
}

func requireQuiet(t *testing.T, notifier Notifier) {
	t.Helper()
	select {
	case <-notifier.Notifications():
		require.Fail(t, "a notification arrived")
	case <-time.After(soon):
	}
}

func notifierReaches(t *testing.T, h NotifierHarness) {
	for range 3 {
		h.Notifier().Notify()
		requireNotified(t, h.Notifier())
		if h.Other() == nil {
			continue
		}
		requireNotified(t, h.Other())
		h.Other().Notify()
		requireNotified(t, h.Other())
		requireNotified(t, h.Notifier())
	}
}

func notifierWaits(t *testing.T, h NotifierHarness) {
	h.Notifier().Notify()
	time.Sleep(soon)
	requireNotified(t, h.Notifier())
	requireQuiet(t, h.Notifier())
}

// notifierCoalesces checks that a burst becomes few notifications, and that the last one is not lost.
func notifierCoalesces(t *testing.T, h NotifierHarness) {
	for range 10_000 {
		h.Notifier().Notify()
	}
	requireNotified(t, h.Notifier())
	requireQuiet(t, h.Notifier())
	if h.Other() == nil {
		return
	}
	heard := 0
	for deadline := time.After(soon); ; {
		select {
		case <-h.Other().Notifications():
			heard++
			continue
		case <-deadline:
		}
		break
	}
	require.Positive(t, heard)
	require.Less(t, heard, 1000)
}

func notifierOutage(t *testing.T, h NotifierHarness) {
	h.Disconnect(t)
	start := time.Now()
	for range 1000 {
		h.Notifier().Notify()
	}
	require.Less(t, time.Since(start), time.Second)
	requireNotified(t, h.Notifier())
	h.Reconnect(t)
	h.Notifier().Notify()
	requireNotified(t, h.Notifier())
	if h.Other() != nil {
		requireNotified(t, h.Other())
	}
}
