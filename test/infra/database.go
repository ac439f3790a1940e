package infra

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

// serverVariable names a running server to use instead of starting one. Its user must be a superuser.
const serverVariable = "OUTBOXIE_TEST_DATABASE_URL"

// shared is the server that the tests of this process share.
var shared cluster

// cluster is a server with a migrated template from which databases are made.
type cluster struct {
	once     sync.Once
	failed   error
	server   *embedded.Postgres // nil if the environment names the server
	admin    *sql.DB
	url      *url.URL
	template string
	strategy string // of CREATE DATABASE: "" is the server's default
	inMemory bool   // servers may keep their data in memory
	folder   string // for the server's data, see temporary
	count    atomic.Int64
}

// Database returns the DATABASE_URL of a fresh migrated database. The database is dropped when the test ends, even if there are still
// connections to it.
func Database(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.failed = shared.open(context.Background()) })
	if shared.failed != nil {
		t.Fatalf("the tests' Postgres: %v", shared.failed)
	}
	name := fmt.Sprintf("%s_%d", shared.template, shared.count.Add(1))
	if _, err := shared.admin.ExecContext(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+shared.template+shared.strategy); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		if err := shared.drop(name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return shared.database(name)
}

func (c *cluster) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // a first download may take a while
	defer cancel()
	address, err := c.start(ctx)
	if err != nil {
		return err
	}
	if c.url, err = url.Parse(address); err != nil {
		return fmt.Errorf("read %s: %w", serverVariable, err)
	}
	if c.admin, err = sql.Open("pgx", address); err != nil {
		return fmt.Errorf("connect to %s: %w", c.url.Redacted(), err)
	}
	c.admin.SetMaxOpenConns(8)
	c.template = fmt.Sprintf("test_%d_%d", os.Getpid(), time.Now().UnixNano())
	if _, err = c.admin.ExecContext(ctx, "CREATE DATABASE "+c.template); err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	if err = c.chooseStrategy(ctx); err != nil {
		return fmt.Errorf("ask for the server's version: %w", err)
	}
	return migrate(ctx, c.database(c.template))
}

func (c *cluster) start(ctx context.Context) (string, error) {
	if address := os.Getenv(serverVariable); address != "" {
		return address, nil
	}
	c.folder = c.temporary()
	dir, err := os.MkdirTemp(c.folder, "outboxie-test-")
	if err != nil {
		return "", err
	}
	c.server, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{
		DataDir: dir, Temporary: true, Home: os.Getenv("OUTBOXIE_PG_HOME"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return c.server.SuperuserURL(), nil
}

const (
	memory = "/dev/shm" // where Linux keeps files in memory
	room   = 4 << 30    // bytes that must be free there: more than the tests of a package and the server's log need
)

// temporary returns the folder for the data of servers. Empty: the usual folder for temporary files. The data of benchmarks is not in
// memory, because benchmarks measure the disk too.
func (c *cluster) temporary() string {
	var free syscall.Statfs_t
	if !c.inMemory || flag.Lookup("test.bench").Value.String() != "" || syscall.Statfs(memory, &free) != nil ||
		free.Bavail*uint64(free.Bsize) < room {
		return ""
	}
	return memory
}

// chooseStrategy makes CREATE DATABASE copy files instead of logging each page, if the files are in memory and the server can copy. The
// copy also has the template's caches of the catalog, so the first connection opens sooner.
func (c *cluster) chooseStrategy(ctx context.Context) error {
	var version int
	err := c.admin.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version)
	if err == nil && c.folder == memory && version >= 15_00_00 {
		c.strategy = " STRATEGY FILE_COPY"
	}
	return err
}

// migrate migrates the database, and closes its connections, because a template must have none.
func migrate(ctx context.Context, address string) (err error) {
	db, err := postgres.Open(postgres.Options{URL: address})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return postgres.MigrateUp(ctx, db, slog.New(slog.DiscardHandler))
}

// database returns the address of another database of the same server.
func (c *cluster) database(name string) string {
	address := *c.url
	address.Path = "/" + name
	return address.String()
}

// drop ends all connections and drops the database.
func (c *cluster) drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := c.admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	return err
}

func (c *cluster) close() error {
	var err error
	if c.admin != nil {
		if c.server == nil && c.template != "" {
			err = c.drop(c.template)
		}
		err = errors.Join(err, c.admin.Close())
	}
	if c.server != nil {
		err = errors.Join(err, c.server.Stop())
	}
	return err
}
