package relay_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestHaltReasonsAreAllOfThem checks that HaltReasons returns every HaltReason constant in halt.go.
func TestHaltReasonsAreAllOfThem(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "halt.go", nil, 0)
	require.NoError(t, err)
	var constants []relay.HaltReason
	ast.Inspect(source, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "HaltReason" {
			for _, value := range spec.Values {
				text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				require.NoError(t, err)
				constants = append(constants, relay.HaltReason(text))
			}
		}
		return true
	})
	require.NotEmpty(t, constants)
	require.ElementsMatch(t, constants, relay.HaltReasons())
}

// TestHaltSaysWhy checks that the error of a halt names its reason and its detail.
func TestHaltSaysWhy(t *testing.T) {
	halt := relay.NewHalt(relay.HaltTailGone, "sequence %d", 7)
	require.EqualError(t, halt, "relay halted (tail_gone): sequence 7")
}
