package relaytest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Bell is both ends of what wakes an instance's relay.
type Bell interface {
	relay.Waker
	relay.Alarm
}

// BellHarness is the bells of two instances; Other is nil where there is only one. Both bells hear each other when open
// and Reconnect return.
type BellHarness interface {
	Outages
	Bell() Bell
	Other() Bell
}

// TestWaker runs the contract of ports.Waker and ports.Alarm. Each call of open gives bells that were not rung.
func TestWaker(t *testing.T, open func(t *testing.T) BellHarness) {
	for name, test := range map[string]func(t *testing.T, h BellHarness){
		"nobody rang":                         func(t *testing.T, h BellHarness) { requireQuiet(t, h.Bell()) },
		"a ring is heard here and everywhere": bellRing,
		"a ring is heard before anybody listens": func(t *testing.T, h BellHarness) {
			h.Bell().Wake()
			time.Sleep(soon)
			requireRung(t, h.Bell())
			requireQuiet(t, h.Bell())
		},
		"many rings are few":            bellCoalesce,
		"an outage never blocks a ring": bellOutage,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func requireRung(t *testing.T, bell Bell) {
	t.Helper()
	select {
	case <-bell.C():
	case <-time.After(patience):
		require.Fail(t, "the bell did not ring")
	}
}

func requireQuiet(t *testing.T, bell Bell) {
	t.Helper()
	select {
	case <-bell.C():
		require.Fail(t, "the bell rang")
	case <-time.After(soon):
	}
}

func bellRing(t *testing.T, h BellHarness) {
	for range 3 {
		h.Bell().Wake()
		requireRung(t, h.Bell())
		if h.Other() == nil {
			continue
		}
		requireRung(t, h.Other())
		h.Other().Wake()
		requireRung(t, h.Other())
		requireRung(t, h.Bell())
	}
}

// bellCoalesce: rings during one burst are gathered, and the last of them is not lost.
func bellCoalesce(t *testing.T, h BellHarness) {
	for range 10_000 {
		h.Bell().Wake()
	}
	requireRung(t, h.Bell())
	requireQuiet(t, h.Bell())
	if h.Other() == nil {
		return
	}
	heard := 0
	for deadline := time.After(soon); ; {
		select {
		case <-h.Other().C():
			heard++
			continue
		case <-deadline:
		}
		break
	}
	require.Positive(t, heard)
	require.Less(t, heard, 1000)
}

func bellOutage(t *testing.T, h BellHarness) {
	h.Disconnect(t)
	start := time.Now()
	for range 1000 {
		h.Bell().Wake()
	}
	require.Less(t, time.Since(start), time.Second)
	requireRung(t, h.Bell())
	h.Reconnect(t)
	h.Bell().Wake()
	requireRung(t, h.Bell())
	if h.Other() != nil {
		requireRung(t, h.Other())
	}
}
