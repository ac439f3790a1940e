package interleavings_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// openGated gives the side a pool of one connection, set up as postgres.Open does. The connection's statements and commits wait at the side's
// gate.
func openGated(t testing.TB, address string, s *side) {
	t.Helper()
	config := connConfig(t, address)
	pool := sql.OpenDB(&connector{inner: stdlib.GetConnector(*config), side: s})
	pool.SetMaxOpenConns(1)
	s.db = bun.NewDB(pool, pgdialect.New())
	t.Cleanup(func() { require.NoError(t, s.db.Close()) })
	require.NoError(t, pool.PingContext(t.Context()))
}

// connConfig returns the settings of every connection of these tests. The scheduler finds deadlocks and chooses the victim, so that a schedule
// can be repeated. Nothing has to survive a crash.
func connConfig(t testing.TB, address string) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.StatementCacheCapacity = 0
	config.DescriptionCacheCapacity = 0
	config.RuntimeParams["deadlock_timeout"] = "10min"
	config.RuntimeParams["synchronous_commit"] = "off"
	return config
}

type connector struct {
	inner driver.Connector
	side  *side
}

func (c *connector) Driver() driver.Driver { return c.inner.Driver() }

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.inner.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, ok := opened.(*stdlib.Conn)
	if !ok {
		return nil, fmt.Errorf("the driver is %T, not pgx", opened)
	}
	c.side.pid = conn.Conn().PgConn().PID()
	return &gatedConn{Conn: conn, side: c.side}, nil
}

// gatedConn lets the scheduler decide when a statement runs. A write without a transaction is two steps, its execution and its commit: Postgres
// does one after the other, and holds the locks in between.
type gatedConn struct {
	*stdlib.Conn
	side *side
	open bool     // the program has a transaction open
	used []string // the tables that this transaction has named
}

var (
	_ driver.QueryerContext    = (*gatedConn)(nil)
	_ driver.ExecerContext     = (*gatedConn)(nil)
	_ driver.ConnBeginTx       = (*gatedConn)(nil)
	_ driver.NamedValueChecker = (*gatedConn)(nil)
)

func (c *gatedConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx is no step: BEGIN takes neither a lock nor a snapshot.
func (c *gatedConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	c.open, c.used = true, nil
	return &gatedTx{inner: tx, conn: c}, nil
}

type gatedTx struct {
	inner driver.Tx
	conn  *gatedConn
}

func (t *gatedTx) Commit() error {
	t.conn.side.step("COMMIT", commit, t.conn.used...)
	t.conn.open = false
	return t.inner.Commit()
}

func (t *gatedTx) Rollback() error {
	t.conn.side.step("ROLLBACK", commit, t.conn.used...)
	t.conn.open = false
	return t.inner.Rollback()
}

func (c *gatedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Result, err error) {
	err = c.run(ctx, query, func() error {
		result, err = c.Conn.ExecContext(ctx, query, args)
		return err
	})
	return result, err
}

func (c *gatedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	var kept *keptRows
	err := c.run(ctx, query, func() error {
		rows, err := c.Conn.QueryContext(ctx, query, args)
		if err != nil {
			return err
		}
		kept, err = keep(rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	return kept, nil
}

// writes matches statements that change or lock rows. A wrong match only adds a step.
var writes = regexp.MustCompile(`(?i)\b(INSERT|UPDATE|DELETE|FOR (NO KEY |KEY )?SHARE)\b`)

func (c *gatedConn) run(ctx context.Context, query string, do func() error) error {
	tables, kind := c.side.touches(query), read
	switch {
	case strings.HasPrefix(query, "ROLLBACK TO"): // it frees locks
		kind, tables = commit, c.used
	case writes.MatchString(query):
		kind = write
	}
	c.side.step(query, kind, tables...)
	if c.open || kind == read || kind == commit {
		c.used = append(c.used, tables...)
		return c.side.blamed(do())
	}
	tx, err := c.Conn.BeginTx(ctx, driver.TxOptions{Isolation: driver.IsolationLevel(sql.LevelReadCommitted)})
	if err != nil {
		return err
	}
	if err := c.side.blamed(do()); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	c.side.step("commit", commit, tables...)
	return tx.Commit()
}

// blamed turns the error of a deadlock's victim into the error that Postgres reports.
func (s *side) blamed(err error) error {
	var reported *pgconn.PgError
	if errors.As(err, &reported) && reported.Code == "57014" && s.victim.Load() {
		return &pgconn.PgError{Severity: "ERROR", Code: "40P01", Message: "deadlock detected"}
	}
	return err
}

// keptRows holds all rows of an answer.
type keptRows struct {
	columns []string
	rows    [][]driver.Value
}

func keep(rows driver.Rows) (*keptRows, error) {
	kept := &keptRows{columns: rows.Columns()}
	for {
		row := make([]driver.Value, len(kept.columns))
		err := rows.Next(row)
		if errors.Is(err, io.EOF) {
			return kept, rows.Close()
		}
		if err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		for i, value := range row {
			if bytes, ok := value.([]byte); ok {
				row[i] = slices.Clone(bytes)
			}
		}
		kept.rows = append(kept.rows, row)
	}
}

func (r *keptRows) Columns() []string { return r.columns }
func (r *keptRows) Close() error      { return nil }

func (r *keptRows) Next(dest []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	copy(dest, r.rows[0])
	r.rows = r.rows[1:]
	return nil
}
