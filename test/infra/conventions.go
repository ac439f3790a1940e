package infra

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Conventions is the registry of OpenTelemetry's semantic conventions: the attributes and the metrics that have a fixed meaning.
type Conventions struct {
	Attributes map[string]ConventionalAttribute
	Metrics    map[string]ConventionalMetric
}

// ConventionalAttribute is an attribute of the registry. Values are those of an enumeration.
type ConventionalAttribute struct {
	Type   string // string, int, double, boolean, string[] or Enum
	Values []string
}

// ConventionalMetric is a metric of the registry.
type ConventionalMetric struct {
	Unit, Kind         string // Kind as of a Point
	Required, Optional []string
}

// conventionsPackage is the version that the telemetry adapter uses. It is generated from the registry, with its types and descriptions.
const conventionsPackage = "go.opentelemetry.io/otel/semconv/v1.43.0"

// ReadConventions reads the registry from the source of the Go package that is generated from it.
func ReadConventions(t testing.TB) Conventions {
	t.Helper()
	where, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", conventionsPackage).Output()
	require.NoError(t, err)
	folder := strings.TrimSpace(string(where))
	c := Conventions{Attributes: make(map[string]ConventionalAttribute), Metrics: make(map[string]ConventionalMetric)}
	c.readAttributes(parsed(t, filepath.Join(folder, "attribute_group.go")))
	files, err := filepath.Glob(filepath.Join(folder, "*conv", "metric.go"))
	require.NoError(t, err)
	for _, file := range files {
		c.readMetrics(parsed(t, file))
	}
	require.Greater(t, len(c.Attributes), 500)
	require.Greater(t, len(c.Metrics), 100)
	return c
}

func parsed(t testing.TB, file string) *ast.File {
	t.Helper()
	source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	require.NoError(t, err)
	return source
}

var typeOfAttribute = regexp.MustCompile(`(?m)^Type: (\S+)$`)

// readAttributes reads constants such as DBCollectionNameKey, and then the values of enumerations.
func (c Conventions) readAttributes(source *ast.File) {
	keys := make(map[string]string) // by the constant
	for _, spec := range valueSpecs(source, token.CONST) {
		if found := typeOfAttribute.FindStringSubmatch(spec.Doc.Text()); found != nil {
			key := literals(spec)[0]
			keys[spec.Names[0].Name] = key
			c.Attributes[key] = ConventionalAttribute{Type: found[1]}
		}
	}
	for _, spec := range valueSpecs(source, token.VAR) {
		call, ok := spec.Values[0].(*ast.CallExpr)
		if !ok {
			continue
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			continue
		}
		if constant, ok := method.X.(*ast.Ident); ok && keys[constant.Name] != "" && method.Sel.Name == "String" {
			attribute := c.Attributes[keys[constant.Name]]
			attribute.Values = append(attribute.Values, literals(call)...)
			c.Attributes[keys[constant.Name]] = attribute
		}
	}
}

func valueSpecs(source *ast.File, kind token.Token) []*ast.ValueSpec {
	var specs []*ast.ValueSpec
	for _, declaration := range source.Decls {
		if group, ok := declaration.(*ast.GenDecl); ok && group.Tok == kind {
			for _, spec := range group.Specs {
				specs = append(specs, spec.(*ast.ValueSpec))
			}
		}
	}
	return specs
}

// readMetrics reads the types of instruments. A type embeds its instrument. The arguments of Add or Record that are not variadic are the
// required attributes, and each method Attr… makes an optional one.
func (c Conventions) readMetrics(source *ast.File) {
	found := make(map[string]*ConventionalMetric) // by the type
	names := make(map[string]string)
	ast.Inspect(source, func(node ast.Node) bool {
		if spec, ok := node.(*ast.TypeSpec); ok {
			if kind := instrument(spec); kind != "" {
				found[spec.Name.Name] = &ConventionalMetric{Kind: kind}
			}
		}
		return true
	})
	for _, declaration := range source.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Recv == nil {
			continue
		}
		owner, ok := function.Recv.List[0].Type.(*ast.Ident)
		if !ok || found[owner.Name] == nil {
			continue
		}
		metric := found[owner.Name]
		switch name := function.Name.Name; {
		case name == "Name":
			names[owner.Name] = literals(function)[0]
		case name == "Unit":
			metric.Unit = literals(function)[0]
		case name == "Add", name == "Record":
			metric.Required = attributesMade(function)
		case strings.HasPrefix(name, "Attr"):
			metric.Optional = append(metric.Optional, attributesMade(function)...)
		}
	}
	for owner, name := range names {
		if metric := *found[owner]; c.Metrics[name].Kind == "" || metric.Required != nil { // the observable form requires none by its type
			c.Metrics[name] = metric
		}
	}
}

// instrument returns the kind of the instrument that a type embeds, or "".
func instrument(spec *ast.TypeSpec) string {
	structure, ok := spec.Type.(*ast.StructType)
	if !ok || len(structure.Fields.List) != 1 {
		return ""
	}
	embedded, ok := structure.Fields.List[0].Type.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	for _, kind := range []string{"UpDownCounter", "Counter", "Gauge", "Histogram"} {
		if strings.HasSuffix(embedded.Sel.Name, kind) {
			return strings.ToLower(kind)
		}
	}
	return ""
}

// attributesMade returns the keys of the calls of package attribute in a function, each once.
func attributesMade(function *ast.FuncDecl) []string {
	keys := []string{}
	ast.Inspect(function, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		if method, ok := call.Fun.(*ast.SelectorExpr); ok {
			if from, ok := method.X.(*ast.Ident); ok && from.Name == "attribute" {
				if key, ok := call.Args[0].(*ast.BasicLit); ok {
					keys = append(keys, unquoted(key))
				}
			}
		}
		return true
	})
	slices.Sort(keys)
	return slices.Compact(keys)
}

// literals returns the texts of a node.
func literals(node ast.Node) []string {
	var texts []string
	ast.Inspect(node, func(node ast.Node) bool {
		if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			texts = append(texts, unquoted(literal))
		}
		return true
	})
	return texts
}

func unquoted(literal *ast.BasicLit) string {
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		return literal.Value
	}
	return text
}
