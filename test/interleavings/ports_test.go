package interleavings_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// driven are the ports that the Postgres adapters implement. Ports that exist only within a transaction have no made.
var driven = []struct {
	port reflect.Type
	made func(db *bun.DB) any
}{
	{reflect.TypeFor[relay.CursorStore](), func(db *bun.DB) any { return postgres.NewCursorStore(db, relayName, "STREAM") }},
	{reflect.TypeFor[relay.Parking](), func(db *bun.DB) any { return postgres.NewParking(db, relayName) }},
	{reflect.TypeFor[operations.ParkingAdmin](), func(db *bun.DB) any { return postgres.NewParking(db, relayName) }},
	{reflect.TypeFor[relay.Retention](), func(db *bun.DB) any { return postgres.NewRetention(db, relayName) }},
	{reflect.TypeFor[relay.Elector](), func(db *bun.DB) any { return postgres.NewElector(db, relayName, "instance", leaseTTL) }},
	{reflect.TypeFor[relay.InstanceHalts](), func(db *bun.DB) any { return postgres.NewInstanceHalts(db, relayName, "instance") }},
	{reflect.TypeFor[relay.Log](), func(db *bun.DB) any { return postgres.NewLog(db, relayName, quiet) }},
	{reflect.TypeFor[operations.RelayInspector](), func(db *bun.DB) any { return postgres.NewRelayAdmin(db, relayName, "STREAM") }},
	{reflect.TypeFor[operations.RelayRepair](), func(db *bun.DB) any { return postgres.NewRelayAdmin(db, relayName, "STREAM") }},
	{reflect.TypeFor[orders.UnitOfWork](), func(db *bun.DB) any { return postgres.NewUnitOfWork(db) }},
	{reflect.TypeFor[orders.OrderReader](), func(db *bun.DB) any { return postgres.NewOrderReader(db) }},
	{reflect.TypeFor[orders.ExpiredKeys](), func(db *bun.DB) any { return postgres.NewExpiredKeys(db) }},
	{reflect.TypeFor[orders.KeyRing](), func(db *bun.DB) any { return postgres.NewKeyRing(db) }},
	{reflect.TypeFor[orders.PersonalData](), func(db *bun.DB) any { return postgres.NewPersonalData(db) }},
	{reflect.TypeFor[operations.ProgressReader](), func(db *bun.DB) any { return postgres.NewRelayAdmin(db, relayName, "STREAM") }},
	{reflect.TypeFor[inbox.Checkpoints](), newInbox},
	{reflect.TypeFor[inbox.UnitOfWork](), newInbox},
	{reflect.TypeFor[inbox.DeadLetters](), newInbox},
	{reflect.TypeFor[operations.DeadLetterAdmin](), newInbox},
	{reflect.TypeFor[inbox.Sweeper](), newInbox},
	{reflect.TypeFor[inbox.Log](), newInbox},
	{reflect.TypeFor[inbox.Operator](), func(db *bun.DB) any { return postgres.NewOperator(db) }},
	{reflect.TypeFor[operations.EffectReader](), func(db *bun.DB) any { return postgres.NewEffectReader(db) }},
	{reflect.TypeFor[operations.ConnectedProcesses](), func(db *bun.DB) any { return postgres.NewProcesses(db) }},

	{port: reflect.TypeFor[orders.Keys]()},
	{port: reflect.TypeFor[orders.CustomerKeys]()},
	{port: reflect.TypeFor[orders.Orders]()},
	{port: reflect.TypeFor[relay.Appender]()},
	{port: reflect.TypeFor[orders.Totals]()},
	{port: reflect.TypeFor[inbox.Emitter]()},
}

func newInbox(db *bun.DB) any { return postgres.NewInbox(db, postgres.InboxOptions{}) }

// reads are the methods that only read.
var reads = []string{
	"relay.CursorStore.Load",
	"relay.Parking.Due",
	"operations.ParkingAdmin.EachUndecided", "operations.ParkingAdmin.Undecided", "operations.ParkingAdmin.Waiting",
	"relay.Log.After", "relay.Log.Verify",
	"operations.RelayInspector.List", "operations.RelayInspector.Measure", "operations.RelayInspector.Status",
	"operations.RelayRepair.At", "operations.RelayRepair.CountAfter", "operations.RelayRepair.Cursor", "operations.RelayRepair.CheckSequence", "operations.RelayRepair.HasEvents",
	"operations.ProgressReader.Progress",
	"orders.OrderReader.Get", "orders.OrderReader.List", "orders.KeyRing.Find", "orders.PersonalData.Inspect",
	"inbox.Checkpoints.Marks",
	"operations.DeadLetterAdmin.CountDead", "operations.DeadLetterAdmin.Letter", "operations.DeadLetterAdmin.Letters", "operations.DeadLetterAdmin.Subscribers",
	"operations.DeadLetterAdmin.EachUndecided", "operations.DeadLetterAdmin.Undecided",
	"inbox.Operator.Overviews",
	"operations.EffectReader.Effects", "operations.ConnectedProcesses.Processes",
	"inbox.Sweeper.Candidates",
	"inbox.Log.ReadHole", "inbox.Log.CursorBetween",
}

// within lists methods that run only within a transaction, with the method that opens this transaction.
var within = map[string]string{
	"orders.Keys.Claim":        "orders.UnitOfWork.Do",
	"orders.Keys.Find":         "orders.UnitOfWork.Do",
	"orders.CustomerKeys.Hold": "orders.UnitOfWork.Do",
	"orders.Orders.Get":        "orders.UnitOfWork.Do",
	"orders.Orders.Save":       "orders.UnitOfWork.Do",
	"relay.Appender.Append":    "orders.UnitOfWork.Do",
	"orders.Totals.Add":        "inbox.UnitOfWork.Apply",
	"inbox.Emitter.Emit":       "inbox.UnitOfWork.Apply",
}

// nameOf returns the name of a port as operations use it: relay.Parking.
func nameOf(port reflect.Type) string { return path.Base(port.PkgPath()) + "." + port.Name() }

// TestEveryMethodHasItsPlace checks that each method of the driven ports has an operation, is listed as a read, or runs within a method that has
// an operation.
func TestEveryMethodHasItsPlace(t *testing.T) {
	written := make(map[string]bool)
	for _, o := range allOperations {
		for _, method := range o.methods {
			written[method] = true
		}
	}
	every := make(map[string]bool)
	for _, d := range driven {
		for i := range d.port.NumMethod() {
			method := nameOf(d.port) + "." + d.port.Method(i).Name
			every[method] = true
			places := 0
			for _, has := range []bool{written[method], slices.Contains(reads, method), written[within[method]]} {
				if has {
					places++
				}
			}
			if places != 1 {
				t.Errorf("%s is listed %d times, not once: it needs an operation, or a line in the list reads; the package comment says how", method, places)
			}
		}
	}
	for _, list := range [][]string{reads, keysOf(written), keysOf(within)} {
		for _, method := range list {
			if !every[method] {
				t.Errorf("%s is listed, and is no method of a driven port", method)
			}
		}
	}
}

func keysOf[V any](m map[string]V) (all []string) {
	for key := range m {
		all = append(all, key)
	}
	return all
}

// TestEveryPortIsListed checks that each port which the source of the adapters names is in the list driven.
func TestEveryPortIsListed(t *testing.T) {
	const folder = "../../internal/adapters/postgres"
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	var implemented, listed []string
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			implemented = append(implemented, portsIn(t, file)...)
		}
	}
	for _, d := range driven {
		listed = append(listed, nameOf(d.port))
	}
	require.ElementsMatch(t, implemented, listed)
}

// portsIn returns the ports that a file declares to implement: var _ relay.Log = (*Log)(nil).
func portsIn(t *testing.T, file string) (found []string) {
	t.Helper()
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
	require.NoError(t, err)
	imports := make(map[string]string)
	for _, spec := range parsed.Imports {
		where, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		name := path.Base(where)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = where
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || spec.Names[0].Name != "_" {
			return true
		}
		if port, ok := spec.Type.(*ast.SelectorExpr); ok {
			if pkg, ok := port.X.(*ast.Ident); ok && strings.Contains(imports[pkg.Name], "/internal/ports/") {
				found = append(found, path.Base(imports[pkg.Name])+"."+port.Sel.Name)
			}
		}
		return true
	})
	return found
}

// TestReadsOnlyRead checks that each method in the list reads sends no write. It skips relay.Log.After, which does not use database/sql.
func TestReadsOnlyRead(t *testing.T) {
	h := newHarness(t)
	require.NoError(t, h.reset(t.Context(), normal))
	s := h.sides[0]
	for _, d := range driven {
		for i := range d.port.NumMethod() {
			method := d.port.Method(i)
			name := nameOf(d.port) + "." + method.Name
			if !slices.Contains(reads, name) || name == "relay.Log.After" {
				continue
			}
			s.sent = nil
			arguments := []reflect.Value{reflect.ValueOf(t.Context())}
			for in := 1; in < method.Type.NumIn(); in++ {
				argument := reflect.Zero(method.Type.In(in))
				if argument.Type() == reflect.TypeFor[[]string]() { // a method may send nothing for no events
					argument = reflect.ValueOf([]string{"018f5e4c-0000-7000-8000-000000000001"})
				}
				if visit := argument.Type(); visit.Kind() == reflect.Func { // called for each row
					argument = reflect.MakeFunc(visit, func([]reflect.Value) []reflect.Value { return []reflect.Value{reflect.ValueOf(false)} })
				}
				arguments = append(arguments, argument)
			}
			reflect.ValueOf(d.made(s.db)).MethodByName(method.Name).Call(arguments)
			require.NotEmpty(t, s.sent, "%s sends nothing", name)
			for _, statement := range s.sent {
				require.False(t, writes.MatchString(statement), "%s is listed as a read, and sends %s", name, statement)
			}
		}
	}
}
