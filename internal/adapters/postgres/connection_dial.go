package postgres

import (
	"net"
	"time"
)

// How a connection notices that nobody is at its other end: a server whose machine is gone, or a network that drops
// everything, sends nothing at all.
const (
	keepAliveIdle     = 15 * time.Second // without anything sent or received, until the first probe
	keepAliveInterval = 5 * time.Second  // between probes
	keepAliveCount    = 3                // probes without an answer that end the connection

	unacknowledged = 10 * time.Second // what was sent may wait for so long for the other end's kernel, where that can be set
)

// newDialer returns what dials TCP and Unix sockets alike.
func newDialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		},
		Control: limitUnacknowledged,
	}
}
