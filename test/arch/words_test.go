package arch

import (
	"go/ast"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// generic has the packages that say nothing of orders, besides those in engine. A service that uses the engine reads their texts.
var generic = []string{
	module + "internal/adapters/jetstream", module + "internal/adapters/telemetry", module + "internal/adapters/webhook",
	module + "outboxietest/checker", module + "outboxietest/contracttest", module + "outboxietest/embedded", module + "outboxietest/inboxtest",
	module + "outboxietest/operationstest", module + "outboxietest/relaytest",
}

func isGeneric(importPath string) bool {
	return slices.Contains(engine, importPath) || slices.Contains(generic, importPath)
}

// aggregate and aggregates name the aggregate of the order service. A renamed copy has other words here.
const aggregate, aggregates = "order", "orders"

// words compiles an expression in which {one} stands for the aggregate's name, {One} for the name with a capital letter, and {many}, {Many} and
// {MANY} for the plural.
func words(expression string) *regexp.Regexp {
	capital := func(word string) string { return strings.ToUpper(word[:1]) + word[1:] }
	return regexp.MustCompile(strings.NewReplacer(
		"{one}", aggregate, "{One}", capital(aggregate), "{many}", aggregates, "{Many}", capital(aggregates), "{MANY}", strings.ToUpper(aggregates),
	).Replace(expression))
}

// The word order is often a sequence: "in order", "the order of commits". These expressions find only the aggregate.
var (
	orderIDs = words(`^(?:{many}|{Many})(?:[A-Z]|$)|[a-z]{Many}(?:[A-Z]|$)|{MANY}|^(?:{one}|{One})[A-Z]|[a-z]{One}[A-Z]|` +
		`(?:[nN]ew|[pP]laced?|[pP]aid|[pP]ay|[sS]hip|[cC]ancel|[gG]et|[lL]oad|[sS]ave){One}$`)
	orderTexts = words(`(?i)\b{many}\b|\b{one}/|\b{one}\.\w|\b{one}'s\b|\b{one}[ -]\d|^"{one}"$|` +
		`\b(?:an?|no|new|every|each|sampled|paid|shipped) {one}\b|\b(?:trace|id|events?|state) of (?:the|an?|its|their) {one}\b|` +
		`\b{one} (?:is|was) (?:placed|paid|shipped|cancelled|counted|created)\b`)
	sequences = regexp.MustCompile(`(?i)\bin (?:\w+ ){0,2}order\b`)
)

// ordersIn returns the places in texts and identifiers that name the aggregate of the order service.
func ordersIn(text string) []string {
	return orderTexts.FindAllString(sequences.ReplaceAllString(text, ""), -1)
}

// orderWordsIn returns the words in names, texts and comments of a file that name the aggregate of the order service.
func orderWordsIn(file *ast.File) (words []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			return false // a rule of its own is about imports
		case *ast.Ident:
			words = append(words, orderIDs.FindAllString(node.Name, -1)...)
		case *ast.BasicLit:
			words = append(words, ordersIn(node.Value)...)
		}
		return true
	})
	for _, comment := range file.Comments {
		words = append(words, ordersIn(comment.Text())...)
	}
	return words
}

// TestWordsOfOrders checks that the expressions find the aggregate, and leave the sequence alone.
func TestWordsOfOrders(t *testing.T) {
	for _, text := range []string{
		"new orders do not shift pages", "ORDERS", "orders.>", "order/7", "outboxie.order.created.v1", "the order's id", "order 7", "order-1",
		`"order"`, "an order is locked", "a read belongs to no order", "each order has a span", "in the trace of its order",
		"before the order is counted", "the state of the order",
	} {
		require.NotEmpty(t, ordersIn(text), text)
	}
	for _, text := range []string{
		"in order", "in the same order", "in commit order", "the order of commits", "keeps their order", "out of order", "C5 order", "in no order",
		"at the end, in order. The next", "ORDER BY position", "ordered", "border/", "a fixed order",
	} {
		require.Empty(t, ordersIn(text), text)
	}
	for _, name := range []string{"orders", "OrderReader", "orderID", "ErrOrderExists", "requireOrders", "AggregateOrders", "placeOrder", "newOrder"} {
		require.NotEmpty(t, orderIDs.FindString(name), name)
	}
	for _, name := range []string{"order", "OrderedConsumer", "holeInOrder", "listOrder", "emitOrdered", "border", "reorder", "Recorder", "borders"} {
		require.Empty(t, orderIDs.FindString(name), name)
	}
}

// embedding is a struct with methods of its own that embeds a type of another package: type embeds imported.name.
type embedding struct{ file, typ, imported, name string }

// interfacesIn returns the names of the interfaces that a file declares.
func interfacesIn(file *ast.File) (names []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, is := node.(*ast.TypeSpec); is {
			if _, is := spec.Type.(*ast.InterfaceType); is {
				names = append(names, spec.Name.Name)
			}
		}
		return true
	})
	return names
}

// embeddingsIn returns the embedded types of the structs in a file, whether or not the structs have methods.
func embeddingsIn(name string, file *ast.File) (found []embedding) {
	imports := make(map[string]string)
	for _, spec := range file.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
			imports[imported[strings.LastIndex(imported, "/")+1:]] = imported
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, is := node.(*ast.TypeSpec)
		if !is {
			return true
		}
		if structure, is := spec.Type.(*ast.StructType); is {
			for _, field := range structure.Fields.List {
				if selector, is := field.Type.(*ast.SelectorExpr); is && len(field.Names) == 0 {
					if from, is := selector.X.(*ast.Ident); is {
						found = append(found, embedding{name, spec.Name.Name, imports[from.Name], selector.Sel.Name})
					}
				}
			}
		}
		return true
	})
	return found
}

// receiversIn returns the types that have methods in a file.
func receiversIn(file *ast.File) (types []string) {
	for _, declaration := range file.Decls {
		method, is := declaration.(*ast.FuncDecl)
		if !is || method.Recv == nil {
			continue
		}
		receiver := method.Recv.List[0].Type
		if pointer, is := receiver.(*ast.StarExpr); is {
			receiver = pointer.X
		}
		if name, is := receiver.(*ast.Ident); is {
			types = append(types, name.Name)
		}
	}
	return types
}

// decorates reports whether a package may wrap ports, as telemetry and the packages that compose the program do.
func decorates(importPath string) bool {
	return importPath == module+"cmd/outboxie" || importPath == module+"internal/engine" || strings.HasPrefix(importPath, module+"internal/adapters/telemetry")
}

// silentlyPassedOn returns the decorators of p that embed the port that they wrap. If the port gets a new method, such a decorator passes the
// method on without a span, a link or a measurement, and nothing says so.
func silentlyPassedOn(p pkg, interfaces map[string][]string) (found []violation) {
	for _, e := range p.embeddings {
		if slices.Contains(p.receivers, e.typ) && slices.Contains(interfaces[e.imported], e.name) {
			found = append(found, violation{decoratorsNameMethods, p.ImportPath, e.file, e.typ + " embeds " + e.name})
		}
	}
	return found
}

// read keeps of a file without tests what the rules about words and decorators need.
func (p *pkg) read(name string, file *ast.File) {
	if layerOf(p.ImportPath) == port {
		p.words[name] = technicalWordsIn(file)
		p.interfaces = append(p.interfaces, interfacesIn(file)...)
	}
	if isGeneric(p.ImportPath) {
		p.orders[name] = orderWordsIn(file)
	}
	if decorates(p.ImportPath) {
		p.embeddings = append(p.embeddings, embeddingsIn(name, file)...)
		p.receivers = append(p.receivers, receiversIn(file)...)
	}
}

// technicalWordsIn returns the words of technology in the names and texts of a file.
func technicalWordsIn(file *ast.File) (words []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.Ident:
			words = append(words, technicalWords.FindAllString(node.Name, -1)...)
		case *ast.BasicLit:
			words = append(words, technicalWords.FindAllString(node.Value, -1)...)
		}
		return true
	})
	return words
}
