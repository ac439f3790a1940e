package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// readOnlyFor is the least age of a read-only session that counts as outdated. A younger session still shows the server's present
	// state. So if the database really is read-only, the pool replaces its sessions at most once in this time.
	readOnlyFor = time.Second

	// standbyFor is how long the pool treats a server as a standby without connecting to it again.
	standbyFor = 250 * time.Millisecond
)

// sessions opens the connections of one pool. Each statement on them has a deadline. If a deadline passes without an answer, the pool never
// again uses the connections that are open now, because they lead through the same network to the same server. So if all connections of a
// pool are dead, the pool loses one timeout, not one for each connection. The pool also drops its open connections if one of them leads to
// a server that takes no writes any more. Such a connection leads to the former primary, or was opened while the database was read-only.
type sessions struct {
	// open tries directConnector first. poolerConnector is for a server that refuses the settings of directConnector.
	directConnector, poolerConnector driver.Connector

	pooled     atomic.Bool   // a pooler stands in between
	within     time.Duration // the limit of a statement
	generation atomic.Int64  // rises when the open connections must not be used again
	standby    atomic.Pointer[refusal]
}

// refusal is an error for which a connection was refused, and its time.
type refusal struct {
	at  time.Time
	err error
}

// newSessions completes config with the settings, and keeps it.
func newSessions(config *pgx.ConnConfig, within time.Duration) (*sessions, error) {
	direct, pooled, err := applySettings(config)
	if err != nil {
		return nil, err
	}
	connector := func(settings map[string]string, isDirect bool) driver.Connector {
		of := config.Copy()
		of.RuntimeParams = settings
		statement := openedStatement(isDirect, settings)
		of.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			return accept(ctx, conn, config.Database, statement, isDirect)
		}
		return stdlib.GetConnector(*of)
	}
	return &sessions{directConnector: connector(direct, true), poolerConnector: connector(pooled, false), within: within}, nil
}

// Driver returns the driver of pgx.
func (s *sessions) Driver() driver.Driver { return s.directConnector.Driver() }

// Connect opens a connection to the first server of DATABASE_URL that is not a standby.
func (s *sessions) Connect(ctx context.Context) (driver.Conn, error) {
	if last := s.standby.Load(); last != nil && time.Since(last.at) < standbyFor {
		return nil, last.err
	}
	ctx, cancel := context.WithTimeout(ctx, s.within*time.Duration(connectTime))
	defer cancel()
	generation, began := s.generation.Load(), time.Now()
	opened, err := s.open(ctx)
	if errors.Is(err, errStandby) {
		s.standby.Store(&refusal{at: time.Now(), err: err})
	}
	if err != nil {
		return nil, err
	}
	conn, ok := opened.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver is %T, not pgx", opened), opened.Close())
	}
	return &session{Conn: conn, pool: s, generation: generation, opened: began}, nil
}

// open tries to reach Postgres itself. If a pooler answers, later sessions set only what poolers accept.
func (s *sessions) open(ctx context.Context) (driver.Conn, error) {
	if !s.pooled.Load() {
		conn, err := s.directConnector.Connect(ctx)
		if !refusesSettings(err) {
			return conn, err
		}
		s.pooled.Store(true)
	}
	conn, err := s.poolerConnector.Connect(ctx)
	if errors.Is(err, errBackendEnded) { // the next backend is new, so it is accepted as it is
		conn, err = s.poolerConnector.Connect(context.WithValue(ctx, keepBackend{}, true))
	}
	return conn, err
}

// accept checks a new connection. If it refuses the connection, pgx tries the next host of DATABASE_URL.
//
// A server that is read-only without being a standby is accepted, so that reading goes on while somebody keeps the database read-only.
// Behind a pooler, a connection to such a server may come from a backend that others have used, maybe long ago. accept ends that backend
// once.
func accept(ctx context.Context, conn *pgconn.PgConn, database, statement string, direct bool) error {
	if err := checkFormat(conn, database); err != nil {
		return err
	}
	results, err := conn.Exec(ctx, statement).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 4 {
		return errors.New("the first statement of a new session returned an unexpected result")
	}
	is := func(column int) bool { return string(results[0].Rows[0][column]) == "t" }
	standby, readOnly, noSchema := is(0), is(1), is(2)
	conn.CustomData()[backendKey] = string(results[0].Rows[0][3]) == strconv.FormatUint(uint64(conn.PID()), 10)
	if !direct && (standby || readOnly) {
		if err := endBackend(ctx, conn); err != nil {
			return err
		}
	}
	switch {
	case standby:
		return errStandby
	case noSchema:
		return ErrSearchPath.With("the search_path leads to no schema of the database %[1]s that may hold tables: name one in DATABASE_URL "+
			"(search_path=public), or set it with ALTER DATABASE %[1]s SET search_path = …", database)
	}
	return nil
}

// keepBackend is the key of a context in which accept does not end a pooler's backend.
type keepBackend struct{}

// errBackendEnded reports that the pooler led to a backend without writes. That backend has been ended.
var errBackendEnded = errors.New("the pooler's connection to Postgres took no writes, and was ended")

// endBackend ends the pooler's connection to a server that takes no writes. Otherwise the pooler keeps that connection for up to an hour.
// Afterwards the pooler opens another connection with the present settings. The new connection leads to the server to which the name leads
// now. Our connection to the pooler ends too.
func endBackend(ctx context.Context, conn *pgconn.PgConn) error {
	if ctx.Value(keepBackend{}) != nil {
		return nil
	}
	_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())
		WHERE pg_catalog.pg_is_in_recovery() OR pg_catalog.current_setting('transaction_read_only') = 'on'`).ReadAll()
	return errors.Join(errBackendEnded, err)
}

// outdated reports whether err says that the session takes no writes, while a new session might.
func (s *session) outdated(err error) bool {
	return (sqlState(err) == "25006" || errors.Is(err, errStandby)) && time.Since(s.opened) > readOnlyFor
}

// retire keeps this session, and every session of the same generation, from being used again.
func (s *session) retire() { s.pool.generation.CompareAndSwap(s.generation, s.generation+1) }
