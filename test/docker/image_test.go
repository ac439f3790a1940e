package docker_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImage checks that the image is small, has only the program, does not run as root, has its version and a health check, and
// does not start without a word about access.
func TestImage(t *testing.T) {
	needEngine(t)
	succeed(t, "make", "docker-build")
	succeed(t, "make", "docker-build")
	var images []struct {
		Size   int64
		Config struct {
			User        string
			Cmd         []string
			Entrypoint  []string
			Healthcheck struct{ Test []string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "docker", "image", "inspect", "outboxie")), &images))
	require.Len(t, images, 1)
	image := images[0]
	t.Logf("%.1f MB", float64(image.Size)/1e6)
	require.Less(t, image.Size, int64(70e6))
	require.Equal(t, "65532:65532", image.Config.User)
	require.Equal(t, []string{"/outboxie"}, image.Config.Entrypoint)
	require.Equal(t, []string{"serve"}, image.Config.Cmd)
	require.Equal(t, []string{"CMD", "/outboxie", "healthcheck"}, image.Config.Healthcheck.Test)

	version := strings.TrimSpace(succeed(t, "git", "describe", "--tags", "--always", "--dirty"))
	require.Equal(t, "outboxie "+version+"\n", succeed(t, "docker", "run", "--rm", "outboxie", "version"))
	said, code := run(t, command(nil, "docker", "run", "--rm", "--env", "DATABASE_URL=postgres://nobody@127.0.0.1/none", "outboxie"))
	require.Equal(t, 2, code, "its API can be reached, and nobody has said who may use it")
	require.Contains(t, said, "AUTH is not set")
	said, code = run(t, command(nil, "docker", "run", "--rm", "--entrypoint", "/bin/sh", "outboxie"))
	require.NotZero(t, code, "there is no shell in it")
	require.Contains(t, said, "no such file")
}
