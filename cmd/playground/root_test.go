package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) {
	processes.RunTiedIfAsked()
	infra.Main(m)
}

// TestRefusedCommandLines checks that a command that cannot work fails before anything is started, and that its error says what
// to do.
func TestRefusedCommandLines(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	stranger := filepath.Join(t.TempDir(), "stranger")
	require.NoError(t, os.WriteFile(stranger, []byte("#!/bin/sh\necho I am another program\n"), 0o700)) //nolint:gosec // it is run
	program := "--program=" + infra.Binary(t)
	for name, c := range map[string]struct {
		args []string
		code int
		said string
	}{
		"demo's ports":      {[]string{"demo", program, "--port", "65534"}, exitUsage, "--port 65534 must be from 1 to 65533"},
		"containers' ports": {[]string{"demo", program, "--docker", "--port=1"}, exitUsage, "containers have the ports of docker/compose"},
		"demo elsewhere":    {[]string{"demo", program, "--docker"}, exitUsage, "run this in its root"},
		"no program":        {[]string{"run", "--program", "/nowhere/outboxie"}, exitUsage, "/nowhere/outboxie is not the program outboxie"},
		"another program": {
			[]string{"run", "--program", stranger},
			exitUsage,
			stranger + " is not the program outboxie (`version` prints \"I am another program\"); name it with --program, or run `make build`",
		},
		"an unknown flag":      {[]string{"run", "--porcelain"}, exitUsage, "unknown flag: --porcelain"},
		"too many subscribers": {[]string{"run", "--subscribers", "101"}, exitUsage, "--subscribers"},
		"the API's address":    {[]string{"run", program, "--http-addr", taken.Addr().String()}, exitFailed, "cannot listen on " + taken.Addr().String()},
		"the admin's address":  {[]string{"run", program, "--admin-addr", taken.Addr().String()}, exitFailed, "port 0 picks a free one"},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			var out, complaints bytes.Buffer
			code := run(append(c.args, map[bool][]string{true: {"--data-dir", data}}[c.args[0] == "run"]...), nil, &out, &complaints)
			require.Equal(t, c.code, code, complaints.String())
			require.Contains(t, complaints.String(), c.said)
			require.NoDirExists(t, data)
		})
	}
}
