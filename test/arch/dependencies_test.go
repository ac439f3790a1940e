package arch

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependenciesAreListed checks that docs/dependencies.md gives a reason for each module that go.mod requires directly, and for no other.
func TestDependenciesAreListed(t *testing.T) {
	mod, err := exec.Command("go", "mod", "edit", "-json", "../../go.mod").Output()
	require.NoError(t, err)
	text, err := os.ReadFile("../../docs/dependencies.md")
	require.NoError(t, err)
	required, listed := direct(t, mod), listedIn(text)
	require.NotEmpty(t, required)
	require.Equal(t, required, listed)
	require.NotEqual(t, required, listedIn(text[:len(text)/2]), "a missing module is noticed")
}

// direct returns the modules that go.mod requires directly.
func direct(t *testing.T, mod []byte) (modules []string) {
	t.Helper()
	var read struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	require.NoError(t, json.Unmarshal(mod, &read))
	for _, module := range read.Require {
		if !module.Indirect {
			modules = append(modules, module.Path)
		}
	}
	slices.Sort(modules)
	return modules
}

// listedIn returns the modules in the first columns of the tables.
func listedIn(text []byte) (modules []string) {
	for _, row := range regexp.MustCompile("(?m)^\\| `[^|]*").FindAll(text, -1) {
		for _, module := range regexp.MustCompile("`([^`]+)`").FindAllSubmatch(row, -1) {
			modules = append(modules, string(module[1]))
		}
	}
	slices.Sort(modules)
	return modules
}
