// Package arch checks the architecture: who may import whom, what documents name, and that actions and modules are pinned and listed. To add a
// rule about imports, add a constant to the rules below, return it from broken or check, and plant a violation of it in arch_test.go.
package arch

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/assylzhan-a/outboxie/"

// layer is a kind of package. Every package belongs to exactly one layer.
type layer string

const (
	domain     layer = "domain"
	port       layer = "port"
	suite      layer = "port's contract suite"
	app        layer = "app"
	adapter    layer = "adapter"
	config     layer = "config"
	composed   layer = "engine" // internal/engine composes the engine's parts
	library    layer = "library"
	migrations layer = "migrations"
	cmd        layer = "cmd"
	playground layer = "playground"
	outside    layer = "outboxietest"
	test       layer = "test"
	unknown    layer = "" // a folder that no rule knows
)

// layers has the layers that must have packages. A rule about a layer without packages would never fail.
var layers = []layer{domain, port, suite, app, adapter, config, composed, library, migrations, cmd, playground, outside, test}

func layerOf(importPath string) layer {
	folder, ours := strings.CutPrefix(importPath+"/", module)
	folder = strings.TrimSuffix(folder, "/")
	under := func(parent string) bool { return folder == parent || strings.HasPrefix(folder, parent+"/") }
	switch {
	case !ours:
		return unknown
	case folder == "", under("outboxiefx"):
		return library
	case under("internal/engine"):
		return composed
	case under("internal/domain"):
		return domain
	case under("outboxietest") && strings.HasSuffix(folder, "test"):
		return suite
	case under("internal/ports"):
		return port
	case under("internal/app"):
		return app
	case under("internal/adapters"):
		return adapter
	case under("internal/config"):
		return config
	case under("migrations"):
		return migrations
	case under("cmd"), under("internal/modules"): // only cmd uses the modules
		return cmd
	case under("internal/playground"):
		return playground
	case under("outboxietest"):
		return outside
	case under("test"):
		return test
	}
	return unknown
}

// adapterOf returns the folder of internal/adapters to which a package belongs.
func adapterOf(importPath string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(importPath, module+"internal/adapters/"), "/")
	return name
}

// pkg is a package as `go list` reports it, with the imports of its files.
type pkg struct {
	ImportPath, Dir, Name             string
	GoFiles, CgoFiles, IgnoredGoFiles []string
	TestGoFiles, XTestGoFiles         []string
	Deps                              []string

	imports map[string][]string // by file, without tests
	aliased map[string][]string // imports with an alias by file, tests included
	words   map[string][]string // of a port: words of technology by file, without tests
	orders  map[string][]string // of a generic package: words that name an order by file, without tests

	interfaces []string    // of a port
	embeddings []embedding // of a package that decorates ports
	receivers  []string    // the same package's types with methods
}

// load lists the module's packages. overlay replaces or adds files, as `go build -overlay` does. load also reads IgnoredGoFiles, the files for
// other platforms and build tags.
func load(root string, overlay map[string]string) ([]pkg, error) {
	args := []string{"list", "-e", "-json=ImportPath,Dir,Name,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Deps"}
	if len(overlay) > 0 {
		folder, err := os.MkdirTemp("", "arch-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(folder)
		file, err := writeOverlay(folder, overlay)
		if err != nil {
			return nil, err
		}
		args = append(args, "-overlay", file)
	}
	command := exec.Command("go", append(args, "./...")...)
	command.Dir = root
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(output))); decoder.More(); {
		var p pkg
		if err := decoder.Decode(&p); err != nil {
			return nil, err
		}
		if err := p.readImports(overlay); err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	return packages, nil
}

func writeOverlay(folder string, overlay map[string]string) (string, error) {
	replace := make(map[string]string)
	for name, content := range overlay {
		replace[name] = filepath.Join(folder, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replace[name], []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, "overlay.json")
	return file, os.WriteFile(file, text, 0o600)
}

func (p *pkg) readImports(overlay map[string]string) error {
	p.imports, p.aliased = make(map[string][]string), make(map[string][]string)
	p.words, p.orders = make(map[string][]string), make(map[string][]string)
	mode := parser.ImportsOnly
	if layerOf(p.ImportPath) == port || isGeneric(p.ImportPath) || decorates(p.ImportPath) {
		mode = parser.SkipObjectResolution | parser.ParseComments // all of it
	}
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
		file := filepath.Join(p.Dir, name)
		var source any // nil: read the file
		if content, ok := overlay[file]; ok {
			source = content
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, mode)
		if err != nil {
			return err
		}
		if mode != parser.ImportsOnly && !strings.HasSuffix(name, "_test.go") {
			p.read(name, parsed)
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if spec.Name != nil && spec.Name.Name != "_" {
				p.aliased[name] = append(p.aliased[name], imported)
			}
			if !strings.HasSuffix(name, "_test.go") {
				p.imports[name] = append(p.imports[name], imported)
			}
		}
	}
	return nil
}

// violation is one import that a rule forbids. file is empty if importer reaches imported only indirectly.
type violation struct {
	rule, importer, file, imported string // if the rule forbids a word, imported is that word
}

func (v violation) String() string {
	return fmt.Sprintf("%s: %s has %q", v.rule, path.Join(strings.TrimPrefix(v.importer, module), v.file), v.imported)
}

// The rules.
const (
	everyPackageIsKnown   = "every package belongs to a layer"
	domainIsPure          = "domain imports only the standard library and fault, and aggregates import value"
	portsArePure          = "ports import only domain and other ports"
	suitesArePlain        = "contract suites import only domain, ports and test libraries"
	engineKnowsNoOrder    = "the engine knows nothing of orders"
	appIsPure             = "app imports only ports and domain"
	adaptersFaceThePorts  = "adapters import only ports, domain, migrations and foreign libraries"
	adaptersAreStrangers  = "adapters never import each other, except for the words that people read"
	onlyCmdKnowsConfig    = "only cmd, the engine and the library import config"
	engineServesAnybody   = "the engine and the library import nothing of the order service"
	onlyTheTopComposes    = "only cmd and the library import the engine, and only outboxiefx and tests import the library"
	outsidersSeeNothing   = "the playground and outboxietest know the program from outside: they import only each other"
	nothingNeedsOutsiders = "the playground and outboxietest are imported by cmd/playground and tests only"
	theServiceIsAlone     = "cmd/outboxie reaches no playground, no nats-server and no embedded Postgres"
	theLibraryIsAlone     = "the library reaches no playground, no outboxietest, no nats-server and no embedded Postgres"
	testsStayTests        = "test code is imported by tests only"
	fxStaysInModules      = "fx appears only in internal/modules, outboxiefx and cmd"
	theLibraryIsWithoutFx = "package outboxie reaches no fx: a program that uses it without outboxiefx does not link fx"
	noTechnologyInside    = "no driver or framework can be reached from domain, ports or app"
	noAliases             = "no import of a package of this module has an alias"
	portsSpeakPlainly     = "names and texts of ports contain no words of technology"
	engineNamesNoOrder    = "names, texts and comments of the engine and its tools name no order"
	decoratorsNameMethods = "a decorator names each method of its port, and embeds no port"
)

var rules = []string{
	everyPackageIsKnown, domainIsPure, portsArePure, suitesArePlain, engineKnowsNoOrder, appIsPure, adaptersFaceThePorts, adaptersAreStrangers,
	onlyCmdKnowsConfig, engineServesAnybody, onlyTheTopComposes, outsidersSeeNothing, nothingNeedsOutsiders, testsStayTests, fxStaysInModules,
	theServiceIsAlone, theLibraryIsAlone, theLibraryIsWithoutFx, noTechnologyInside, noAliases, portsSpeakPlainly, engineNamesNoOrder, decoratorsNameMethods,
}

// show has the import path prefixes of the packages that demonstrate and test the service.
var show = []string{
	module + "internal/playground", module + "outboxietest", "github.com/nats-io/nats-server", "github.com/fergusstrange/embedded-postgres",
	"github.com/cloudevents",
}

// wordsOfEdges are the adapters that others may import: what people read at a terminal and in the console has one source.
var wordsOfEdges = []string{module + "internal/adapters/printable", module + "internal/adapters/wording"}

// technologies has the import path prefixes of drivers and frameworks.
var technologies = []string{
	"database/sql", "net/http", "github.com/uptrace/bun", "github.com/jackc/pgx", "github.com/pressly/goose",
	"github.com/nats-io", "github.com/synadia-io", "github.com/gin-gonic/gin", "github.com/spf13", "go.uber.org/fx",
	"go.uber.org/dig", "go.opentelemetry.io",
}

// technicalWords belong to adapters. Comments may use them, to say what a limit comes from.
var technicalWords = regexp.MustCompile(`NATS|JetStream|Postgres|SQLSTATE|PID\b|DATABASE_URL|HTTP|If-Match|traceparent`)

var testLibraries = []string{"github.com/stretchr/testify", "pgregory.net/rapid", "go.uber.org/goleak"}

const fx = "go.uber.org/fx"

// valueTypes has the types that every aggregate may have. An aggregate imports no other aggregate.
const valueTypes = module + "internal/domain/value"

// engine has the packages that work with the events of any service. service has the packages of the order service: all other packages of domain,
// ports and app.
var (
	engine = []string{
		module + "internal/domain/fault", module + "internal/domain/outbox",
		module + "internal/ports/inbox", module + "internal/ports/operations", module + "internal/ports/relay", module + "internal/ports/webhook",
		module + "internal/app/notifying", module + "internal/app/operating", module + "internal/app/relaying", module + "internal/app/subscribing",
		module + "internal/app/watching",
	}
	service = []string{
		module + "internal/domain/fulfillment", module + "internal/domain/order", valueTypes, module + "internal/ports/orders",
		module + "internal/app/fulfilling", module + "internal/app/opening", module + "internal/app/ordering", module + "internal/app/totals",
	}
)

// check returns every violation of every rule.
func check(packages []pkg) []violation {
	var found []violation
	interfaces := make(map[string][]string)
	for _, p := range packages {
		interfaces[p.ImportPath] = p.interfaces
	}
	for _, p := range packages {
		from := layerOf(p.ImportPath)
		if from == unknown {
			found = append(found, violation{everyPackageIsKnown, p.ImportPath, "", ""})
		}
		for file, imports := range p.imports {
			for _, imported := range imports {
				if rule := broken(p.ImportPath, file, imported); rule != "" {
					found = append(found, violation{rule, p.ImportPath, file, imported})
				}
			}
		}
		for file, imports := range p.aliased {
			for _, imported := range imports {
				if strings.HasPrefix(imported, module) {
					found = append(found, violation{noAliases, p.ImportPath, file, imported})
				}
			}
		}
		for file, words := range p.words {
			for _, word := range words {
				found = append(found, violation{portsSpeakPlainly, p.ImportPath, file, word})
			}
		}
		for file, words := range p.orders {
			for _, word := range words {
				found = append(found, violation{engineNamesNoOrder, p.ImportPath, file, word})
			}
		}
		found = append(found, silentlyPassedOn(p, interfaces)...)
		for _, reached := range p.Deps {
			if rule := aloneRule(p.ImportPath); rule != "" && matches(reached, show) {
				found = append(found, violation{rule, p.ImportPath, "", reached})
			}
			if p.ImportPath+"/" == module && matches(reached, []string{fx}) {
				found = append(found, violation{theLibraryIsWithoutFx, p.ImportPath, "", reached})
			}
		}
		if from != domain && from != port && from != app {
			continue
		}
		for _, reached := range p.Deps {
			if matches(reached, technologies) {
				found = append(found, violation{noTechnologyInside, p.ImportPath, "", reached})
			}
		}
	}
	return found
}

// broken returns the rule that importer breaks by importing imported in file, or "".
func broken(importer, file, imported string) string {
	from, to := layerOf(importer), layerOf(imported)
	ours := strings.HasPrefix(imported, module)
	foreign := !ours && strings.Contains(strings.Split(imported, "/")[0], ".")
	switch {
	case from == test:
		return ""
	case to == test, to == suite && from != suite:
		return testsStayTests
	case from == playground && ours && to != playground && to != outside, from == outside && ours && to != outside:
		return outsidersSeeNothing
	case (to == playground || to == outside) && from != playground && from != outside && importer != module+"cmd/playground":
		return nothingNeedsOutsiders
	case to == config && from != cmd && from != composed && from != library:
		return onlyCmdKnowsConfig
	case to == composed && from != cmd && from != library, to == library && importer != module+"outboxiefx":
		return onlyTheTopComposes
	case (from == composed || from == library) && slices.Contains(service, imported):
		return engineServesAnybody
	case matches(imported, []string{fx}) && from != cmd && importer != module+"outboxiefx":
		return fxStaysInModules
	}
	if from != domain && isGeneric(importer) && slices.Contains(service, imported) {
		return engineKnowsNoOrder
	}
	switch from {
	case domain:
		if foreign || ours && imported != module+"internal/domain/fault" && (imported != valueTypes || slices.Contains(engine, importer)) {
			return domainIsPure
		}
	case port:
		if foreign || ours && to != domain && to != port {
			return portsArePure
		}
	case suite:
		if foreign && !matches(imported, testLibraries) || ours && to != domain && to != port && to != suite {
			return suitesArePlain
		}
	case app:
		if foreign || ours && to != domain && to != port {
			return appIsPure
		}
	case adapter:
		switch {
		case to == adapter && adapterOf(importer) != adapterOf(imported) && !matches(imported, wordsOfEdges):
			return adaptersAreStrangers
		case ours && to != adapter && to != domain && to != port && to != migrations:
			return adaptersFaceThePorts
		}
	}
	return ""
}

func matches(importPath string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
	})
}
