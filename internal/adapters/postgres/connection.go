// Package postgres keeps orders, the outbox log, the relay's lease and cursor, and the subscribers' inbox in Postgres. Open a pool with
// Open, bring the tables up to date with MigrateUp, and make the ports with the New functions, or with Module in an fx graph.
//
// Statements go through bun and need no session state, so PgBouncer may be used in transaction mode. The read of the log uses pgx directly,
// because every new event waits for that read. If a connection leads to Postgres itself, this read and the statements of the type prepared
// are prepared statements.
//
// A file's name begins with the port that the file serves: orders, log, relay, inbox or operations. The files connection, session, check
// and migrate serve all ports.
package postgres

import (
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// Options says how to reach the database. Only URL is required.
type Options struct {
	URL             string // postgres://user:password@host:port/database?…, or a keyword/value string
	MaxOpenConns    int    // upper bound of the pool; 0: 16
	ApplicationName string // shown in pg_stat_activity; empty: the one in URL, else outboxie
	// StatementTimeout bounds each statement. It also bounds the wait for a free connection before the statement; 0: 15 s. A statement that
	// is allowed more time gets a multiple of StatementTimeout.
	StatementTimeout time.Duration
	// TracerProvider receives a span per statement that runs within a span; nil: none.
	TracerProvider trace.TracerProvider
}

const (
	defaultMaxOpenConns = 16
	connectTimeout      = 5 * time.Second
	// The pool renews its connections from time to time, so that they spread over the servers again after a failover or a resize.
	connMaxLifetime = 30 * time.Minute
	connMaxIdleTime = 5 * time.Minute
)

// ErrURL reports that the text is not a database URL, or that it asks for something that the program does not support. The message never
// shows the password.
var ErrURL = fault.New(fault.Invalid, "invalid_database_url", "not a Postgres URL")

// Open makes a pool. It does not connect: if the database is down, the first statement fails.
//
// The pool uses the simple protocol. bun writes the arguments into the statement, so every statement is a new text. With another protocol
// the driver would prepare and remember each of these texts, and PgBouncer in transaction mode cannot keep prepared statements.
func Open(options Options) (*bun.DB, error) {
	db, _, err := open(options)
	return db, err
}

func open(options Options) (*bun.DB, *sessions, error) {
	config, err := parseAddress(options.URL)
	if err != nil {
		return nil, nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.StatementCacheCapacity = 0
	config.DescriptionCacheCapacity = 0
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if name := applicationName(options, config); name != "" {
		config.RuntimeParams["application_name"] = name
	}
	config.DialFunc = newDialer().DialContext

	within := options.StatementTimeout
	if within <= 0 {
		within = statementTimeout
	}
	connectors, err := newSessions(config, within)
	if err != nil {
		return nil, nil, err
	}
	pool := sql.OpenDB(connectors)
	maxOpen := options.MaxOpenConns
	if maxOpen <= 0 {
		maxOpen = defaultMaxOpenConns
	}
	pool.SetMaxOpenConns(maxOpen)
	pool.SetMaxIdleConns(maxOpen)
	pool.SetConnMaxLifetime(connMaxLifetime)
	pool.SetConnMaxIdleTime(connMaxIdleTime)

	db := bun.NewDB(pool, pgdialect.New()).WithQueryHook(poolWaits{within: within})
	if options.TracerProvider != nil {
		db = db.WithQueryHook(newTracing(options.TracerProvider, config.Config))
	}
	return db, connectors, nil
}

func applicationName(options Options, config *pgx.ConnConfig) string {
	if options.ApplicationName != "" {
		return options.ApplicationName
	}
	if name := config.RuntimeParams["application_name"]; name != "" {
		return name
	}
	return "outboxie"
}
