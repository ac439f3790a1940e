package docker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// TestReleaseFiles checks what .goreleaser.yaml names: the program, the files of an archive, and an image that differs from that of
// docker/Dockerfile only in where the program comes from. `make release-check` checks the file itself, with goreleaser.
func TestReleaseFiles(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	require.NoError(t, err)
	var release struct {
		Builds []struct {
			Main         string
			GOOS, GOARCH []string
			Ldflags      []string
		}
		Archives []struct{ Files []struct{ Src string } }
		SBOMs    []struct{ Artifacts string }
		Images   []struct {
			Dockerfile string
			SBOM       string
			Flags      []string
		} `yaml:"dockers_v2"`
	}
	require.NoError(t, yaml.Unmarshal(text, &release))
	build := release.Builds[0]
	require.FileExists(t, filepath.Join(root, build.Main, "main.go"))
	version, err := os.ReadFile(filepath.Join(root, build.Main, "version.go"))
	require.NoError(t, err)
	require.Contains(t, build.Ldflags[0], "-X main.version=")
	require.Contains(t, string(version), "\nvar version string\n", "the flag sets this variable")
	for _, file := range release.Archives[0].Files {
		require.FileExists(t, filepath.Join(root, file.Src))
	}
	require.NotEmpty(t, release.SBOMs)
	image := release.Images[0]
	require.Equal(t, "true", image.SBOM)
	require.Contains(t, image.Flags, "--provenance=mode=max")
	require.Equal(t, lastStage(t, "docker/Dockerfile"), lastStage(t, image.Dockerfile))
}

// lastStage returns the lines of a Dockerfile's last stage, without comments, arguments and the lines that copy files.
func lastStage(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	_, stage, found := strings.Cut(string(text), "\nFROM scratch\n")
	require.True(t, found)
	var lines []string
	for line := range strings.Lines(stage) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "ARG ") && !strings.HasPrefix(line, "COPY ") {
			lines = append(lines, line)
		}
	}
	return lines
}
