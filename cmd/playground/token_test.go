package main

import (
	"os"
	"path/filepath"
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
	out, err := os.Create(t.TempDir() + "/log")
	require.NoError(t, err)
	defer out.Close()
	c := config.Default()
	c.Playground.DataDir = t.TempDir()
	require.Equal(t, "none; the log says why", describeToken(c, terminal))
	file := filepath.Join(c.Playground.DataDir, "admin-token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	require.Equal(t, token+"\n               in "+file, describeToken(c, terminal))
	require.Equal(t, "in "+file, describeToken(c, out))
	require.Equal(t, "in "+file, describeToken(c, new(strings.Builder)))
	c.HTTP.AdminToken = token
	require.Equal(t, "that of ADMIN_TOKEN", describeToken(c, terminal))
	c.HTTP.AdminToken = config.Off
	require.Equal(t, "none is asked for: ADMIN_TOKEN is off", describeToken(c, terminal))
}
