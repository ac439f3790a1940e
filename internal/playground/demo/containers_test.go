package demo

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// docker replaces the program docker by a script.
func docker(t *testing.T, script string) {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "docker"), []byte("#!/bin/sh\n"+script), 0o755)) //nolint:gosec // a program
	t.Setenv("PATH", folder)
	t.Chdir("../../..") // where the compose file is
}

// TestDockerIsNotAsItMustBe checks that the first step names what is wrong with Docker, and that nothing is removed that the demo did not
// start.
func TestDockerIsNotAsItMustBe(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"no engine": {
			`echo Cannot connect to the Docker daemon. >&2; exit 1`,
			"no Docker engine answers; without --docker none is needed: docker version --format {{.Server.Version}}: exit status 1\n" +
				"  Cannot connect to the Docker daemon.",
		},
		"no compose": {
			`if [ $1 = version ]; then echo 20.10; else echo "docker: 'compose' is not a docker command." >&2; exit 1; fi`,
			"a Docker engine answers, but there is no `docker compose`: install the Compose plugin, 2.20 or newer: " +
				"docker compose version --short: exit status 1\n  docker: 'compose' is not a docker command.",
		},
		"old compose": {
			`if [ $1 = version ]; then echo 20.10; else echo 2.19.1; fi`,
			"Docker Compose is version 2.19.1; docker/compose.distributed.yaml needs 2.20 or newer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			docker(t, c.script)
			fleet, err := NewContainers("outboxie", os.Environ(), "v1")
			require.NoError(t, err)
			var out bytes.Buffer
			err = Run(t.Context(), fleet, &out, false)
			require.EqualError(t, err, `the demo failed at step 1, "Clean up": `+c.want)
			require.Contains(t, out.String(), "✓  2  Stop and remove everything")
		})
	}
	t.Chdir(t.TempDir())
	_, err := NewContainers("outboxie", nil, "v1")
	require.ErrorContains(t, err, "containers need the repository's docker/compose.distributed.yaml: run this in its root")
}

// TestComposeVersions checks that versions of Compose that cannot include files are refused.
func TestComposeVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"1.29.2": true, "2.19.1": true, "v2.3": true, "2.20.0": false, "v2.40.3": false, "5.0.0-desktop.1": false,
	} {
		require.Equal(t, want, old(version), version)
	}
}

// TestLogOfADeadContainer checks that Log fails for a container that ended although nobody killed it, and for no other container.
func TestLogOfADeadContainer(t *testing.T) {
	folder := t.TempDir()
	docker(t, `case "$*" in
*logs*) echo the last words;;
*ps*) test -e `+folder+`/dead || echo 0123456789ab;;
esac`)
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/bin:/bin")
	fleet, err := NewContainers("outboxie", os.Environ(), "v1")
	require.NoError(t, err)
	log, err := fleet.Log(t.Context(), "subscriber1")
	require.NoError(t, err)
	require.Equal(t, "the last words", log)

	require.NoError(t, os.WriteFile(filepath.Join(folder, "dead"), nil, 0o600))
	log, err = fleet.Log(t.Context(), "subscriber1")
	require.EqualError(t, err, "the container subscriber1 ended by itself; the end of its log:\n  the last words")
	require.Equal(t, "the last words", log)

	require.NoError(t, fleet.Kill(t.Context(), "app1"))
	_, err = fleet.Log(t.Context(), "app1")
	require.NoError(t, err, "the demo has killed it")
	require.NoError(t, fleet.Restart(t.Context(), "app1"))
	_, err = fleet.Log(t.Context(), "app1")
	require.ErrorContains(t, err, "app1 ended by itself")
}

// TestTokenForContainers checks that the demo makes a token with the key that the compose file names, before it starts the containers, and names
// the reason if it cannot.
func TestTokenForContainers(t *testing.T) {
	folder := t.TempDir()
	docker(t, `if [ $2 = port ]; then echo 127.0.0.1:1; else echo "$@" >> `+folder+`/said; fi`)
	compose, err := os.ReadFile(ComposeFile)
	require.NoError(t, err)
	require.Contains(t, string(compose), "../"+keyFolder+"/auth-jwks.json")
	program := filepath.Join(folder, "program")
	fleet, err := NewContainers(program, append(os.Environ(), "AUTH_ISSUER=x"), "v1")
	require.NoError(t, err)
	for script, want := range map[string]string{
		`echo "$OUTBOXIE_DATA_DIR $AUTH_ISSUER $*"`: "",
		`echo no place >&2; exit 1`:                 "make a token for the API, with a key in .outboxie: exit status 1\n  no place",
	} {
		require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o755)) //nolint:gosec // a program
		_, err := fleet.start(t.Context(), nil)
		if want != "" {
			require.EqualError(t, err, want)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, ".outboxie  token --service demo", fleet.Token())
	}
	said, err := os.ReadFile(filepath.Join(folder, "said"))
	require.NoError(t, err)
	require.Equal(t, "compose up --detach --wait\n", string(said))
}

// TestOwnerOfAPort checks that an error about a taken port names the container that has it.
func TestOwnerOfAPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	for said, script := range map[string]string{
		"the container web-1":                  `echo web-1`,
		"a process that this user may not see": `exit 1`,
	} {
		t.Run(said, func(t *testing.T) {
			docker(t, script)
			require.EqualError(t, processes.NeedFree(t.Context(), port), fmt.Sprintf("port %d is taken by %s", port, said))
		})
	}
	require.NoError(t, listener.Close())
	require.NoError(t, processes.NeedFree(t.Context(), port))
}
