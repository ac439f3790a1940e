package operating_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operating"
)

// TestEveryHaltHasAMeaning reads the reasons from where they are declared.
func TestEveryHaltHasAMeaning(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../domain/outbox/halt.go", nil, 0)
	require.NoError(t, err)
	declared := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "HaltReason" {
			reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			require.NotEmpty(t, operating.Halt{Halt: outbox.Halt{Reason: outbox.HaltReason(reason)}}.Meaning(), reason)
			declared++
		}
		return true
	})
	require.Positive(t, declared)
	require.Empty(t, operating.Halt{Halt: outbox.Halt{Reason: "of the future"}}.Meaning())
}

func TestParseAggregate(t *testing.T) {
	const id = "550e8400-e29b-41d4-a716-446655440000"
	for text, want := range map[string]outbox.Key{
		"550E8400-e29b-41d4-a716-446655440000": {Type: "order", ID: id},
		"order/" + id:                          {Type: "order", ID: id},
		"invoice/a/b c":                        {Type: "invoice", ID: "a/b c"},
	} {
		key, err := operating.ParseAggregate(text)
		require.NoError(t, err)
		require.Equal(t, want, key)
	}
	for _, text := range []string{"", "7", "/", "order/", "/" + id, "order/\x00", "a/\xff"} {
		_, err := operating.ParseAggregate(text)
		require.ErrorIs(t, err, operating.ErrAggregate, "%q", text)
	}
}
