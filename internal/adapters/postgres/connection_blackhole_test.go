package postgres_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"golang.org/x/sync/errgroup"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// drivenPorts are the ports that the Postgres adapter implements, also those that are used inside a transaction.
var drivenPorts = []reflect.Type{
	reflect.TypeFor[relay.Log](), reflect.TypeFor[relay.CursorStore](), reflect.TypeFor[relay.Parking](),
	reflect.TypeFor[operations.ParkingAdmin](), reflect.TypeFor[relay.Retention](), reflect.TypeFor[relay.Elector](),
	reflect.TypeFor[relay.Appender](), reflect.TypeFor[relay.InstanceHalts](),
	reflect.TypeFor[operations.RelayInspector](), reflect.TypeFor[operations.RelayRepair](), reflect.TypeFor[operations.ProgressReader](),
	reflect.TypeFor[orders.UnitOfWork](), reflect.TypeFor[orders.Keys](), reflect.TypeFor[orders.Orders](),
	reflect.TypeFor[orders.OrderReader](),
	reflect.TypeFor[orders.ExpiredKeys](), reflect.TypeFor[orders.CustomerKeys](), reflect.TypeFor[orders.KeyRing](),
	reflect.TypeFor[orders.PersonalData](),
	reflect.TypeFor[inbox.Checkpoints](), reflect.TypeFor[inbox.UnitOfWork](), reflect.TypeFor[orders.Totals](), reflect.TypeFor[inbox.DeadLetters](),
	reflect.TypeFor[operations.DeadLetterAdmin](), reflect.TypeFor[inbox.Sweeper](), reflect.TypeFor[inbox.Log](),
	reflect.TypeFor[inbox.Operator](), reflect.TypeFor[inbox.Emitter](), reflect.TypeFor[operations.EffectReader](),
	reflect.TypeFor[operations.ConnectedProcesses](),
}

// A statement times out after short in these tests. On a busy machine, an answer may take up to slack longer.
const (
	short = 3 * time.Second
	slack = 3 * time.Second
)

// blackHoled is one call of a port, with its own connection pool.
type blackHoled struct {
	name string
	db   *bun.DB
	call func(ctx context.Context, db *bun.DB) error
	most time.Duration
}

// TestEveryCallEnds checks that every method of every port returns in time when no connection answers any more. First the
// pooled connections are dead, then new ones, too. Each call reports that the database is unavailable. When new connections
// work again, the next call succeeds at once, without a try on each dead connection.
func TestEveryCallEnds(t *testing.T) {
	proxy, address, direct := newProxy(t)
	calls := newBlackHoled(t, address)
	each := func(atOnce int, run func(c *blackHoled)) {
		var all errgroup.Group
		all.SetLimit(atOnce)
		for _, c := range calls {
			all.Go(func() error {
				run(c)
				return nil
			})
		}
		_ = all.Wait()
	}
	const few = 4 // to open a connection takes a while
	inside := newTransactions(t, address)
	each(few, func(c *blackHoled) { warm(t, c.db) })
	proxy.SilenceAll()
	for _, connections := range []string{"pooled", "new"} {
		each(len(calls), func(c *blackHoled) {
			start := time.Now()
			err := c.call(t.Context(), c.db)
			if took := time.Since(start); took > c.most+slack || fault.KindOf(err) != fault.Unavailable {
				t.Errorf("%s, %s connections: it took %v, and the answer was %v", c.name, connections, took, err)
			}
		})
	}
	inside.end(t)
	// The server ends sessions whose clients are gone. The new connections need the free slots.
	exec(t, open(t, postgres.Options{URL: direct}), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	proxy.Restore()
	each(few, func(c *blackHoled) {
		start := time.Now()
		err := c.call(t.Context(), c.db)
		if took := time.Since(start); took > short || !answered(err) {
			t.Errorf("%s, when new connections work: it took %v, and the answer was %v", c.name, took, err)
		}
	})
}

// answered reports whether an answer came from the database: a success, or a refusal that is not an outage.
func answered(err error) bool {
	kind := fault.KindOf(err)
	return err == nil || kind == fault.NotFound || kind == fault.Conflict
}

// newProxy returns a proxy to a new database, the address of the database behind the proxy, and its direct address.
func newProxy(t *testing.T) (proxy *infra.Proxy, address, direct string) {
	t.Helper()
	direct = infra.Database(t)
	parsed, err := url.Parse(direct)
	require.NoError(t, err)
	proxy = infra.NewProxy(t, parsed.Host)
	parsed, err = url.Parse(proxy.URL(t, direct))
	require.NoError(t, err)
	query := parsed.Query()
	query.Set("connect_timeout", "2")
	parsed.RawQuery = query.Encode()
	return proxy, parsed.String(), direct
}

// warm opens both connections of a pool.
func warm(t *testing.T, db *bun.DB) {
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := db.ExecContext(t.Context(), "SELECT pg_sleep(0.05)"); err != nil {
				t.Errorf("open a connection: %v", err)
			}
		})
	}
	both.Wait()
}

func newBlackHoled(t *testing.T, address string) []*blackHoled {
	t.Helper()
	var all []*blackHoled
	for name, call := range calls() {
		c := &blackHoled{name: name, call: call, most: short}
		if longer[name] {
			c.most = 4 * short
		}
		c.db = open(t, postgres.Options{URL: address, MaxOpenConns: 2, StatementTimeout: short})
		all = append(all, c)
	}
	return all
}

// transactions are open transactions, one for each method that a port has inside a transaction. They wait until no connection
// answers.
type transactions struct {
	begin   chan struct{}
	results map[string]chan error
}

func newTransactions(t *testing.T, address string) *transactions {
	t.Helper()
	all := &transactions{begin: make(chan struct{}), results: make(map[string]chan error)}
	ready := make(chan struct{})
	await := func(name string, result <-chan error) {
		select {
		case <-ready:
		case err := <-result:
			t.Fatalf("the transaction of %s ended too early: %v", name, err)
		}
	}
	hold := func(name string, call func(ctx context.Context) error) error {
		ready <- struct{}{}
		<-all.begin
		start := time.Now()
		err := call(t.Context())
		waits := err == nil // for the commit, which end checks
		if took := time.Since(start); took > short+slack || fault.KindOf(err) != fault.Unavailable && !waits {
			t.Errorf("%s: it took %v, and the answer was %v", name, took, err)
		}
		return err
	}
	db := open(t, postgres.Options{URL: address, MaxOpenConns: len(orderingCalls()) + len(inboxCalls())*len(inboxTransactions()), StatementTimeout: short})
	for name, call := range orderingCalls() {
		result := make(chan error, 1)
		all.results[name] = result
		go func() {
			result <- postgres.NewUnitOfWork(db).Do(t.Context(), func(_ context.Context, tx orders.Tx) error {
				return hold(name, func(ctx context.Context) error { return call(ctx, tx) })
			})
		}()
		await(name, result)
	}
	for name, call := range inboxCalls() {
		for kind, run := range inboxTransactions() {
			result := make(chan error, 1)
			all.results[name+" in "+kind] = result
			go func() {
				result <- run(t.Context(), db, name+" in "+kind, handlerFunc(func(ctx context.Context, tx inbox.Tx, _ outbox.Entry) error {
					ready <- struct{}{}
					<-all.begin
					return call(ctx, tx)
				}))
			}()
			await(name+" in "+kind, result)
		}
	}
	return all
}

// end lets the waiting transactions make their calls, and checks that each transaction ends in time.
func (o *transactions) end(t *testing.T) {
	t.Helper()
	close(o.begin)
	for name, result := range o.results {
		select {
		case err := <-result:
			require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", name, err)
		case <-time.After(2*short + 2*slack): // the time for the statement and for ROLLBACK
			t.Errorf("the transaction of %s still waits", name)
		}
	}
}

// TestEveryMethodOfEveryPortIsBlackHoled checks that TestEveryCallEnds covers every port and every method. A new method needs a
// call with arguments, and a new port an entry in drivenPorts.
func TestEveryMethodOfEveryPortIsBlackHoled(t *testing.T) {
	known := slices.Sorted(maps.Keys(calls()))
	known = slices.AppendSeq(known, maps.Keys(orderingCalls()))
	known = slices.AppendSeq(known, maps.Keys(inboxCalls()))
	slices.Sort(known)
	var methods, interfaces []string
	for _, port := range drivenPorts {
		interfaces = append(interfaces, port.String())
		for i := range port.NumMethod() {
			methods = append(methods, fmt.Sprint(port, ".", port.Method(i).Name))
		}
	}
	slices.Sort(methods)
	require.Equal(t, methods, known)
	require.ElementsMatch(t, asserted(t), interfaces, "the ports that the package's source says it implements")
}

// asserted returns the ports for which the package's source has an assertion var _ port = (*adapter)(nil).
func asserted(t *testing.T) (found []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	assertion := regexp.MustCompile(`_ +((?:relay|operations|orders|inbox)\.\w+) += \(\*`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, match := range assertion.FindAllStringSubmatch(string(text), -1) {
			found = append(found, match[1])
		}
	}
	return found
}
