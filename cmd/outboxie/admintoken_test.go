package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// TestTheBannerShowsTheTokenToATerminal checks that a pipe or a file, which could keep the token, gets only the path of its file.
func TestTheBannerShowsTheTokenToATerminal(t *testing.T) {
	const token = "0123456789abcdef"
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	defer terminal.Close()
	file, err := os.Create(t.TempDir() + "/log")
	require.NoError(t, err)
	defer file.Close()
	c := config.Default()
	c.Dev.DataDir = "/data"
	require.Equal(t, token+"\n               in /data/admin-token", describeToken(c, token, terminal))
	require.Equal(t, "in /data/admin-token", describeToken(c, token, file))
	require.Equal(t, "in /data/admin-token", describeToken(c, token, new(strings.Builder)))
	require.Equal(t, "none; the log says why", describeToken(c, "", terminal))
	c.HTTP.AdminToken = token
	require.Equal(t, "that of ADMIN_TOKEN", describeToken(c, token, terminal))
	c.HTTP.AdminToken = config.Off
	require.Equal(t, "none is asked for: ADMIN_TOKEN is off", describeToken(c, "", terminal))
}
