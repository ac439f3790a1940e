package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// ErrUnavailable reports that the database cannot be reached, is overloaded, shuts down, or ended this transaction in favor of another.
// Nobody knows whether the statement took effect.
var ErrUnavailable = fault.New(fault.Unavailable, "database_unavailable", "the database cannot do this at the moment")

// ErrSchema reports that the database lacks a table or a column that the statement needs.
var ErrSchema = fault.New(fault.Internal, "schema_outdated",
	"the database's schema is missing or older than this program: run `outboxie migrate up`")

// classify turns an error of the driver into a fault. A fault stays as it is. A transient error becomes ErrUnavailable, and the lack of a right
// becomes operations.ErrNoRight. Any other error stays unclassified. If ctx has ended, errors.Is finds the error of ctx, even if database/sql
// returned an error of its own instead.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = errors.Join(ended, err)
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	if state := sqlState(err); state == "42P01" || state == "42703" { // undefined table, column
		return ErrSchema.Wrap(err)
	}
	if sqlState(err) == insufficientPrivilege {
		return operations.ErrNoRight.Wrap(err)
	}
	if !transient(err) {
		return err
	}
	return ErrUnavailable.Wrap(err)
}

func transient(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) { // for any reason: the server may be up later, or may let the program in later
		return true
	}
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		return transientCode(reported.Code)
	}
	var network net.Error
	return errors.As(err, &network) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// transientCode reports whether a SQLSTATE says that the same statement may succeed later.
func transientCode(code string) bool {
	switch code {
	case "55P03": // lock timeout
		return true
	case "25006": // read-only: the pool still points at the former primary
		return true
	case "25P03", "25P04": // the transaction was idle or ran for too long
		return true
	}
	switch code[:min(2, len(code))] {
	case "08", "53", "58": // connection, resources (also too many connections), system
		return true
	case "40", "57": // the transaction was rolled back (deadlock), an operator intervened (statement timeout, shut down, idle too long)
		return true
	}
	return false
}

const uniqueViolation = "23505" // a SQLSTATE

// sqlState returns the SQLSTATE that Postgres reported about a statement, or "".
func sqlState(err error) string {
	var connect *pgconn.ConnectError
	var reported *pgconn.PgError
	if !errors.As(err, &connect) && errors.As(err, &reported) {
		return reported.Code
	}
	return ""
}
