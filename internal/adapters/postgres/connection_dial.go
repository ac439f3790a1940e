package postgres

import (
	"net"
	"time"
)

// These limits decide when a connection counts as broken. If the server's machine is gone, or a network drops everything, the connection
// receives nothing, not even an error.
const (
	keepAliveIdle     = 15 * time.Second // time without traffic before the first probe
	keepAliveInterval = 5 * time.Second  // between probes
	keepAliveCount    = 3                // probes without an answer that end the connection

	ackTimeout = 10 * time.Second // how long sent data may wait for the acknowledgement of the other end's kernel; only Linux can set it
)

// newDialer returns a dialer for TCP and for Unix sockets.
func newDialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		},
		Control: limitUnacknowledged,
	}
}
