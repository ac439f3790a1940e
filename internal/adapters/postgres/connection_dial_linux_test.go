package postgres_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

func TestTheKernelGivesDeadConnectionsUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	conn, err := postgres.NewDialer().DialContext(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	got := make(map[int]int)
	require.NoError(t, raw.Control(func(fd uintptr) {
		for _, option := range []int{unix.TCP_USER_TIMEOUT, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT} {
			if got[option], err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil {
				return
			}
		}
	}))
	require.NoError(t, err)
	require.Equal(t, map[int]int{
		unix.TCP_USER_TIMEOUT: int(postgres.AckTimeout.Milliseconds()),
		unix.TCP_KEEPIDLE:     15, unix.TCP_KEEPINTVL: 5, unix.TCP_KEEPCNT: 3,
	}, got)
}
