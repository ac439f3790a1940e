package arch

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDependencyRule checks that no package breaks a rule, that each layer has packages, and that each package of domain, ports and app belongs
// either to the engine or to the service.
func TestDependencyRule(t *testing.T) {
	packages, err := load("../..", nil)
	require.NoError(t, err)
	for _, v := range check(packages) {
		t.Error(v)
	}
	for _, l := range layers {
		require.True(t, slices.ContainsFunc(packages, func(p pkg) bool { return layerOf(p.ImportPath) == l && len(p.imports) > 0 }),
			"no package belongs to the layer %s: the rules about it never fail", l)
	}
	var inside []string
	for _, p := range packages {
		if l := layerOf(p.ImportPath); (l == domain || l == port || l == app) && len(p.GoFiles) > 0 {
			inside = append(inside, p.ImportPath)
		}
	}
	require.ElementsMatch(t, inside, slices.Concat(engine, service))
}

// plants are forbidden files, at least one for each rule.
var plants = []struct {
	rule   string
	folder string
	file   string    // empty: a name with a number, such as planted0.go
	source string    // the import
	alias  string    // of the import; empty: _
	code   string    // behind the import
	caught violation // empty: the new file imports source
}{
	{rule: everyPackageIsKnown, folder: "internal/utils", source: "fmt", caught: violation{importer: "internal/utils"}},
	{rule: domainIsPure, folder: "internal/domain/order", source: "github.com/google/uuid"},
	{rule: domainIsPure, folder: "internal/domain/outbox", source: module + "internal/domain/order"},
	{rule: domainIsPure, folder: "internal/domain/fulfillment", source: module + "internal/domain/order"},
	{rule: domainIsPure, folder: "internal/domain/outbox", source: valueTypes},
	{rule: portsArePure, folder: "internal/ports/orders", source: "github.com/google/uuid"},
	{rule: portsArePure, folder: "internal/ports/inbox", source: module + "migrations"},
	{rule: suitesArePlain, folder: "outboxietest/relaytest", source: "github.com/uptrace/bun"},
	{rule: suitesArePlain, folder: "outboxietest/relaytest", source: module + "internal/adapters/codec"},
	{rule: engineKnowsNoOrder, folder: "internal/ports/inbox", source: module + "internal/domain/order"},
	{rule: engineKnowsNoOrder, folder: "internal/app/subscribing", source: module + "internal/ports/orders"},
	{rule: engineKnowsNoOrder, folder: "internal/ports/operations", source: module + "internal/ports/orders"},
	{rule: engineKnowsNoOrder, folder: "internal/app/operating", source: module + "internal/domain/order"},
	{rule: engineKnowsNoOrder, folder: "internal/adapters/telemetry", source: module + "internal/ports/orders"},
	{rule: engineKnowsNoOrder, folder: "outboxietest/inboxtest", source: module + "internal/ports/orders"},
	{rule: noAliases, folder: "cmd/outboxie", alias: "ports", source: module + "internal/ports/relay"},
	{rule: noAliases, folder: "internal/app/relaying", file: "planted_alias_test.go", alias: ".", source: module + "internal/ports/relay"},
	{
		rule: portsSpeakPlainly, folder: "internal/ports/relay", source: "fmt", code: `const hint = "see NATS_URL"`,
		file: "planted_word.go", caught: violation{importer: "internal/ports/relay", file: "planted_word.go", imported: "NATS"},
	},
	{
		rule: portsSpeakPlainly, folder: "internal/ports/inbox", source: "fmt", code: "type Session struct{ PID int }",
		file: "planted_name.go", caught: violation{importer: "internal/ports/inbox", file: "planted_name.go", imported: "PID"},
	},
	{
		rule: engineNamesNoOrder, folder: "internal/app/relaying", source: "fmt", code: "// A relay publishes each event of the order.",
		file: "planted_comment.go", caught: violation{importer: "internal/app/relaying", file: "planted_comment.go", imported: "event of the order"},
	},
	{
		rule: engineNamesNoOrder, folder: "outboxietest/embedded", source: "fmt", code: `const created = "orders.created"`,
		file: "planted_text.go", caught: violation{importer: "outboxietest/embedded", file: "planted_text.go", imported: "orders"},
	},
	{
		rule: engineNamesNoOrder, folder: "internal/adapters/telemetry", source: "fmt", code: "var orderID int",
		file: "planted_name.go", caught: violation{importer: "internal/adapters/telemetry", file: "planted_name.go", imported: "orderI"},
	},
	{
		rule: decoratorsNameMethods, folder: "internal/adapters/telemetry/ordertrace", source: "fmt",
		code: "import \"" + module + "internal/ports/orders\"\n\ntype lazy struct{ orders.Service }\n\nfunc (lazy) Place() {}", file: "planted_decorator.go",
		caught: violation{importer: "internal/adapters/telemetry/ordertrace", file: "planted_decorator.go", imported: "lazy embeds Service"},
	},
	{rule: everyPackageIsKnown, folder: "outboxie", source: "fmt", caught: violation{importer: "outboxie"}},
	{rule: outsidersSeeNothing, folder: "outboxietest/helpers", source: module + "internal/domain/order"},
	{rule: appIsPure, folder: "internal/app/relaying", source: "github.com/cenkalti/backoff/v5"},
	{rule: appIsPure, folder: "internal/app/ordering", source: module + "internal/adapters/codec"},
	{rule: adaptersFaceThePorts, folder: "internal/adapters/postgres", source: module + "internal/app/relaying"},
	{rule: adaptersAreStrangers, folder: "internal/adapters/postgres", source: module + "internal/adapters/jetstream"},
	{rule: onlyCmdKnowsConfig, folder: "internal/adapters/jetstream", source: module + "internal/config"},
	{rule: onlyCmdKnowsConfig, folder: "internal/app/subscribing", source: module + "internal/config"},
	{rule: engineServesAnybody, folder: "internal/engine", source: module + "internal/domain/order"},
	{rule: engineServesAnybody, folder: "outboxiefx", source: module + "internal/ports/orders"},
	{rule: onlyTheTopComposes, folder: "internal/app/relaying", source: module + "internal/engine"},
	{rule: onlyTheTopComposes, folder: "cmd/playground", source: strings.TrimSuffix(module, "/")},
	{rule: fxStaysInModules, folder: "internal/engine", source: "go.uber.org/fx"},
	{rule: outsidersSeeNothing, folder: "outboxietest/embedded", source: module + "internal/domain/outbox"},
	{rule: outsidersSeeNothing, folder: "outboxietest/embedded", source: module + "internal/playground/processes"},
	{rule: outsidersSeeNothing, folder: "internal/playground/processes", source: module + "internal/adapters/printable"},
	{rule: nothingNeedsOutsiders, folder: "cmd/outboxie", source: module + "internal/playground/processes"},
	{
		rule: theServiceIsAlone, folder: "internal/adapters/jetstream", source: "github.com/nats-io/nats-server/v2/server",
		caught: violation{importer: "cmd/outboxie", imported: "github.com/nats-io/nats-server/v2/server"},
	},
	{
		rule: theLibraryIsAlone, folder: "outboxiefx", source: "github.com/fergusstrange/embedded-postgres",
		caught: violation{importer: "outboxiefx", imported: "github.com/fergusstrange/embedded-postgres"},
	},
	{
		rule: theLibraryIsAlone, folder: "internal/engine", file: "planted_embedded.go", source: module + "outboxietest/embedded",
		caught: violation{importer: ".", imported: module + "outboxietest/embedded"},
	},
	{rule: nothingNeedsOutsiders, folder: "internal/engine", file: "planted_embedded.go", source: module + "outboxietest/embedded"},
	{rule: fxStaysInModules, folder: ".", source: "go.uber.org/fx"},
	{rule: fxStaysInModules, folder: "internal/adapters/jetstream", file: "module.go", source: "go.uber.org/fx"},
	{
		rule: theLibraryIsWithoutFx, folder: ".", source: module + "internal/modules",
		caught: violation{importer: ".", imported: "go.uber.org/fx"},
	},
	{rule: nothingNeedsOutsiders, folder: "internal/adapters/jetstream", source: module + "outboxietest/embedded"},
	{rule: nothingNeedsOutsiders, folder: "internal/config", source: module + "internal/playground/processes"},
	{rule: testsStayTests, folder: "internal/adapters/codec", source: module + "outboxietest/relaytest"},
	{rule: fxStaysInModules, folder: "internal/adapters/memory", source: "go.uber.org/fx"},
	{rule: fxStaysInModules, folder: "internal/domain/fault", source: "go.uber.org/fx"},
	// The first import is reached only indirectly. The second is in a file for another platform.
	{
		rule: noTechnologyInside, folder: "internal/domain/outbox", source: "database/sql",
		caught: violation{importer: "internal/app/relaying", imported: "database/sql"},
	},
	{rule: adaptersAreStrangers, folder: "internal/adapters/postgres", file: "planted_plan9.go", source: module + "internal/adapters/httpapi"},
}

// TestPlantedViolationsAreCaught checks that each rule can fail: it adds forbidden files to the real tree, at least one for each rule.
func TestPlantedViolationsAreCaught(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	overlay := make(map[string]string)
	var want []violation
	for i, plant := range plants {
		name := cmp.Or(plant.file, fmt.Sprintf("planted%d.go", i))
		overlay[filepath.Join(root, plant.folder, name)] = fmt.Sprintf(
			"package %s\n\nimport %s %q\n\n%s", path.Base(path.Join("outboxie", plant.folder)), cmp.Or(plant.alias, "_"), plant.source, plant.code)
		v := plant.caught
		if v.importer == "" {
			v = violation{importer: plant.folder, file: name, imported: plant.source}
		}
		v.rule, v.importer = plant.rule, path.Clean(module+v.importer)
		want = append(want, v)
	}

	packages, err := load(root, overlay)
	require.NoError(t, err)
	found := check(packages)
	for _, v := range want {
		require.True(t, slices.Contains(found, v), "not caught: %s", v)
	}
	for _, v := range found {
		// These rules also report packages that reach a planted import indirectly. Every other violation must be a planted one.
		indirect := v.file == "" && slices.Contains([]string{noTechnologyInside, theServiceIsAlone, theLibraryIsAlone, theLibraryIsWithoutFx}, v.rule)
		require.True(t, indirect || slices.Contains(want, v), "not planted: %s", v)
	}
	for _, rule := range rules {
		require.True(t, slices.ContainsFunc(want, func(v violation) bool { return v.rule == rule }), "nothing is planted for: %s", rule)
	}
}

// aloneRule returns the rule that says what the package must not reach, or "".
func aloneRule(importPath string) string {
	switch {
	case importPath == module+"cmd/outboxie":
		return theServiceIsAlone
	case layerOf(importPath) == library:
		return theLibraryIsAlone
	}
	return ""
}
