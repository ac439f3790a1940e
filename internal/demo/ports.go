package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	netstat "github.com/shirou/gopsutil/v4/net"
	processes "github.com/shirou/gopsutil/v4/process"
)

// checkPort fails if the port on loopback is taken, and says by whom, as far as this user may know.
func checkPort(ctx context.Context, port int) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	switch {
	case err == nil:
		return listener.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d is taken by %s: stop that, or choose another port", port, listenerOf(ctx, port))
	}
	return fmt.Errorf("port %d cannot be used: %w", port, err)
}

// listenerOf names the process that listens on the port.
func listenerOf(ctx context.Context, port int) string {
	const unknown = "a process that this user may not see"
	connections, err := netstat.ConnectionsWithContext(ctx, "tcp")
	if err != nil {
		return unknown
	}
	for _, c := range connections {
		if c.Status != "LISTEN" || c.Laddr.Port != uint32(port) || c.Pid == 0 {
			continue
		}
		name := "process"
		if p, err := processes.NewProcessWithContext(ctx, c.Pid); err == nil {
			if known, err := p.NameWithContext(ctx); err == nil {
				name = known
			}
		}
		return fmt.Sprintf("%s (process %d)", name, c.Pid)
	}
	return unknown
}
