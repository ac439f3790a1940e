package docker_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVulnerabilities checks that `make vulnerabilities` fails for findings. Without the vulnerability database it fails only where CI requires
// it. The test replaces govulncheck by a program that prints the same texts.
func TestVulnerabilities(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		says             string
		passes, required bool
	}{
		"echo 'No vulnerabilities found.'":                                                     {"No vulnerabilities found.", true, true},
		"echo 'govulncheck: fetching vulnerabilities: no such host' >&2; exit 1":               {"were not looked for", true, false},
		"echo 'Vulnerability #1: GO-2026-1'; exit 3":                                           {"Vulnerability #1", false, false},
		"echo 'Vulnerability #1: in fetching vulnerabilities of a server'; exit 3":             {"Vulnerability #1", false, false},
		"echo 'govulncheck: loading packages: there are errors with the packages' >&2; exit 1": {"loading packages", false, false},
	} {
		program := filepath.Join(t.TempDir(), "go")
		require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"+name+"\n"), 0o755)) //nolint:gosec // a program
		said, code := run(t, command([]string{"VULNDB="}, "make", "vulnerabilities", "GO="+program))
		require.Equal(t, test.passes, code == 0, name)
		require.Contains(t, said, test.says)
		_, code = run(t, command([]string{"VULNDB=required"}, "make", "vulnerabilities", "GO="+program))
		require.Equal(t, test.required, code == 0, name)
	}
}
