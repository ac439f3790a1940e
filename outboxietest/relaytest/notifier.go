package relaytest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Notifier is both ends of what wakes an instance's relay.
type Notifier interface {
	relay.Notifier
	relay.Listener
}

// NotifierHarness has the notifiers of two instances. Other is nil if there is only one. Both hear each other when open and
// Reconnect return.
type NotifierHarness interface {
	Outages
	Notifier() Notifier
	Other() Notifier
}

// TestNotifier runs the contract of relay.Notifier and relay.Listener. Each call of open gives notifiers without a notification.
func TestNotifier(t *testing.T, open func(t *testing.T) NotifierHarness) {
	for name, test := range map[string]func(t *testing.T, h NotifierHarness){
		"nobody rang":                         func(t *testing.T, h NotifierHarness) { requireQuiet(t, h.Notifier()) },
		"a ring is heard here and everywhere": bellRing,
		"a ring is heard before anybody listens": func(t *testing.T, h NotifierHarness) {
			h.Notifier().Notify()
			time.Sleep(soon)
			requireRung(t, h.Notifier())
			requireQuiet(t, h.Notifier())
		},
		"many rings are few":            bellCoalesce,
		"an outage never blocks a ring": bellOutage,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func requireRung(t *testing.T, bell Notifier) {
	t.Helper()
	select {
	case <-bell.Notifications():
	case <-time.After(patience):
		require.Fail(t, "the bell did not ring")
	}
}

func requireQuiet(t *testing.T, bell Notifier) {
	t.Helper()
	select {
	case <-bell.Notifications():
		require.Fail(t, "the bell rang")
	case <-time.After(soon):
	}
}

func bellRing(t *testing.T, h NotifierHarness) {
	for range 3 {
		h.Notifier().Notify()
		requireRung(t, h.Notifier())
		if h.Other() == nil {
			continue
		}
		requireRung(t, h.Other())
		h.Other().Notify()
		requireRung(t, h.Other())
		requireRung(t, h.Notifier())
	}
}

// bellCoalesce: rings during one burst are gathered, and the last of them is not lost.
func bellCoalesce(t *testing.T, h NotifierHarness) {
	for range 10_000 {
		h.Notifier().Notify()
	}
	requireRung(t, h.Notifier())
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

func bellOutage(t *testing.T, h NotifierHarness) {
	h.Disconnect(t)
	start := time.Now()
	for range 1000 {
		h.Notifier().Notify()
	}
	require.Less(t, time.Since(start), time.Second)
	requireRung(t, h.Notifier())
	h.Reconnect(t)
	h.Notifier().Notify()
	requireRung(t, h.Notifier())
	if h.Other() != nil {
		requireRung(t, h.Other())
	}
}
