package arch

import (
	"flag"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var write = flag.Bool("write", false, "TestPublicAPI writes api.txt")

// publicPackages are the packages that other modules import.
var publicPackages = []string{"", "outboxiefx", "outboxietest/checker", "outboxietest/embedded"}

// TestPublicAPI checks that api.txt lists all exported names of the public packages with their types. So nobody changes the public API without
// noticing.
func TestPublicAPI(t *testing.T) {
	listed := publicAPI(t, nil)
	if *write {
		require.NoError(t, os.WriteFile("../../api.txt", []byte(listed), 0o644))
	}
	require.Equal(t, readText(t, "../../api.txt"), listed, "The public API has changed. If that is intended, say in CHANGELOG.md what users have to do, "+
		"and run: go test ./test/arch -run TestPublicAPI -write")
}

// TestPlantedAPIChangesAreCaught checks that the list changes with each kind of change of the API, and with no other change.
func TestPlantedAPIChangesAreCaught(t *testing.T) {
	before := publicAPI(t, nil)
	for _, change := range []struct{ file, from, to string }{
		{"engine.go", "func (e *Engine) Migrate(ctx context.Context) error {", "func (e *Engine) Migrate(ctx context.Context, force bool) error {"},
		{"engine.go", "func (e *Engine) Migrate(", "func (e *Engine) migrate("},
		{"admin.go", "HidePayloads bool", "HidePayloads int"},
		{"admin.go", "HidePayloads bool", "HidePayloads bool\n\tAdded string"},
		{"errors.go", "ErrClosed =", "ErrShut ="},
		{"errors.go", "ErrInvalidEvent error", "ErrInvalidEvent any"},
		{"handler.go", "type Middleware func(next HandlerFunc) HandlerFunc", "type Middleware func(next HandlerFunc, last HandlerFunc) HandlerFunc"},
		{"outbox.go", "\tCommit() error\n}", "\tCommit() error\n\tRollback() error\n}"},
		{"tx.go", "type Batch[T any]", "type Batch[T comparable]"},
		{"outboxiefx/module.go", "func Relay() Option", "func Relay(standby bool) Option"},
		{"outboxietest/checker/checker.go", `= "C1 loss"`, `= "C1"`},
	} {
		after := publicAPI(t, map[string]func(string) string{change.file: replaceOnce(t, change.from, change.to)})
		require.NotEqual(t, before, after, "%s: %s", change.file, change.to)
	}
	for _, change := range []struct{ file, from, to string }{
		{"engine.go", "// Migrate brings", "// Migrate carries"},
		{"engine.go", "func (e *Engine) closeAll()", "func (e *Engine) shutAll()"},
		{"engine.go", "\tclosed  bool", "\tclosed  int"},
		{"errors.go", `"the engine is closed"`, `"closed"`},
	} {
		require.Equal(t, before, publicAPI(t, map[string]func(string) string{change.file: replaceOnce(t, change.from, change.to)}), change.to)
	}
}

func replaceOnce(t *testing.T, from, to string) func(string) string {
	return func(text string) string {
		require.Contains(t, text, from)
		return strings.Replace(text, from, to, 1)
	}
}

// publicAPI returns the sorted declarations of the public packages. changes changes the text of files.
func publicAPI(t *testing.T, changes map[string]func(string) string) string {
	t.Helper()
	var text strings.Builder
	for _, folder := range publicPackages {
		files, err := filepath.Glob(filepath.Join("../..", folder, "*.go"))
		require.NoError(t, err)
		var declarations []string
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source := readText(t, file)
			if change := changes[filepath.ToSlash(strings.TrimPrefix(file, filepath.FromSlash("../../")))]; change != nil {
				source = change(source)
			}
			declarations = append(declarations, exportedIn(t, source)...)
		}
		require.NotEmpty(t, declarations)
		slices.Sort(declarations)
		text.WriteString("package " + strings.TrimSuffix(module+folder, "/") + "\n\n" + strings.Join(slices.Compact(declarations), "\n") + "\n\n")
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// exportedIn returns the exported declarations of a file, without comments, bodies and unexported fields. A variable has its type and not its
// value, so a variable without a type has neither.
func exportedIn(t *testing.T, source string) (declarations []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", source, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.FileExports(file)
	show := func(node ast.Node) {
		var text strings.Builder
		require.NoError(t, format.Node(&text, files, node))
		declarations = append(declarations, strings.ReplaceAll(text.String(), "\n\n", "\n")) // comments leave empty lines
	}
	for _, declaration := range file.Decls {
		if function, is := declaration.(*ast.FuncDecl); is {
			function.Body = nil
			if function.Recv == nil || exportedReceiver(function.Recv.List[0].Type) {
				show(function)
			}
			continue
		}
		general, is := declaration.(*ast.GenDecl)
		if !is {
			continue
		}
		for _, spec := range general.Specs {
			switch spec := spec.(type) {
			case *ast.ImportSpec:
				continue
			case *ast.ValueSpec:
				if general.Tok == token.VAR {
					spec.Values = nil
				}
				if spec.Type == nil && spec.Values == nil { // not valid Go, so go/format cannot print it
					for _, name := range spec.Names {
						declarations = append(declarations, general.Tok.String()+" "+name.Name)
					}
					continue
				}
			}
			show(&ast.GenDecl{Tok: general.Tok, Specs: []ast.Spec{spec}})
		}
	}
	return declarations
}

func exportedReceiver(receiver ast.Expr) bool {
	switch receiver := receiver.(type) {
	case *ast.StarExpr:
		return exportedReceiver(receiver.X)
	case *ast.IndexExpr:
		return exportedReceiver(receiver.X)
	case *ast.Ident:
		return receiver.IsExported()
	}
	return true
}
