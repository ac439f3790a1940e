package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// prepared is a statement that a session prepares once, if no pooler is in between. It is for statements for which a single event waits,
// because Postgres takes longer to plan them than to run them.
type prepared struct{ name, text string }

// bunArgument matches the place in a statement where bun writes an argument.
var bunArgument = regexp.MustCompile(`\?\d+`)

// prepare returns the prepared form of a statement that numbers its arguments.
func prepare(name, statement string) prepared {
	return prepared{name: "outboxie_" + name, text: bunArgument.ReplaceAllStringFunc(statement, func(argument string) string {
		number, _ := strconv.Atoi(argument[1:]) // the pattern has digits only
		return "$" + strconv.Itoa(number+1)
	})}
}

type preparedKey struct{}

// preparedCall is a prepared statement with its arguments.
type preparedCall struct {
	prepared
	args []any
}

// with returns a context in which a session ignores the text of its statement and runs the prepared statement. The text must be the same
// statement with the same arguments. The arguments are strings, integers, and integers that may be NULL.
func (p prepared) with(ctx context.Context, args []any) context.Context {
	return context.WithValue(ctx, preparedKey{}, &preparedCall{p, args})
}

// values returns the arguments in the text form that Postgres reads. nil is NULL.
func (c *preparedCall) values() [][]byte {
	values := make([][]byte, len(c.args))
	for i, arg := range c.args {
		if arg != nil {
			values[i] = fmt.Append(nil, arg)
		}
	}
	return values
}

// backendKey is the key of a note in a connection. The note is true if the connection's first statement ran in the backend whose id the
// connection got at its opening. Behind a pooler it can be another backend.
const backendKey = "own backend"

// preparedIn returns the prepared statement of the context. It returns nil if there is none, or if the session cannot have prepared
// statements.
func (s *session) preparedIn(ctx context.Context) *preparedCall {
	call, _ := ctx.Value(preparedKey{}).(*preparedCall)
	if call == nil || s.unprepared || s.Conn.Conn().PgConn().CustomData()[backendKey] != true {
		return nil
	}
	return call
}

// runPrepared runs a prepared statement, together with a BEGIN that has not been sent yet.
func (s *session) runPrepared(ctx context.Context, c *preparedCall) (result *pgconn.Result, err error) {
	defer func() { s.unprepared = s.unprepared || lostPlan(err) }()
	if _, err := s.Conn.Conn().Prepare(ctx, c.name, c.text); err != nil {
		return nil, err
	}
	conn := s.Conn.Conn().PgConn()
	if len(s.unsent.statements) > 0 {
		if err := s.sendUnsent(ctx); err != nil {
			return nil, err
		}
	}
	if s.unsent.begin == "" {
		result = conn.ExecPrepared(ctx, c.name, c.values(), nil, nil).Read()
		return result, result.Err
	}
	begin := s.unsent.begin
	s.unsent.begin = ""
	pipeline := conn.StartPipeline(ctx)
	defer func() { err = errors.Join(err, pipeline.Close()) }()
	pipeline.SendQueryParams(begin, nil, nil, nil, nil)
	pipeline.SendQueryPrepared(c.name, c.values(), nil, nil)
	if err := pipeline.Sync(); err != nil {
		return nil, err
	}
	for range 2 { // BEGIN, and the statement
		answer, err := pipeline.GetResults()
		if err != nil {
			return nil, err
		}
		reader, ok := answer.(*pgconn.ResultReader)
		if !ok {
			return nil, fmt.Errorf("the answer to statement %s is %T", c.name, answer)
		}
		if result = reader.Read(); result.Err != nil {
			return nil, result.Err
		}
	}
	return result, nil
}

// lostPlan reports whether Postgres no longer has the prepared statement, or whether the columns of its result have changed.
func lostPlan(err error) bool {
	state := sqlState(err)
	return state == "26000" || state == "0A000"
}
