package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

type inspectKey struct{}

// inspect returns why the transaction cannot go on after a handler: it has ended, a statement of it has failed, or rows are open. It closes
// rows that are open, so that the connection can be used. It sends nothing to Postgres, and does nothing if no handler has used the transaction
// itself.
func (e *effects) inspect(ctx context.Context) error {
	e.mu.Lock()
	direct := e.direct
	e.mu.Unlock()
	if !direct {
		return nil
	}
	_, err := e.tx.Tx.ExecContext(context.WithValue(ctx, inspectKey{}, true), "")
	return err
}

var (
	errSwallowed = errors.New("a statement of the handler failed, and the handler did not return its error: Postgres has aborted the transaction")
	errRowsOpen  = errors.New("the handler left the rows of a query open: close the rows, and scan each row of QueryRowContext")
)

func (s *session) inspect() error {
	conn := s.Conn.Conn().PgConn()
	busy := conn.IsBusy()
	if busy && s.reading != nil {
		_ = s.reading.Close() // the caller gets errRowsOpen
	}
	switch status := conn.TxStatus(); {
	case s.unsent.begin != "":
		return nil
	case status == 'I':
		return errEndedEarly
	case status == 'E':
		return errSwallowed
	case busy:
		return errRowsOpen
	}
	return nil
}

type guardKey struct{}

// guarded returns a context whose transactions call handlers, so no statement may end them.
func guarded(ctx context.Context) context.Context { return context.WithValue(ctx, guardKey{}, true) }

// errEndedEarly reports that something ended a transaction before its COMMIT, so its statements were not one unit.
var errEndedEarly = errors.New("the transaction had ended before its commit: a handler must not commit or roll back")

// refuseEnd refuses a statement that would end the transaction in which handlers are called. Such a statement would commit the record that the
// events were handled without their effects, or some effects without the record. Savepoints are allowed.
func (s *session) refuseEnd(query string) error {
	if !s.guarded {
		return nil
	}
	if command := transactionCommand(query); command != "" {
		return fmt.Errorf("%s is refused: the engine ends the transaction of a handler, so that the effect and its record commit together", command)
	}
	return nil
}

// transactionCommand returns the first command of query that begins or ends a transaction, or "". It looks at the beginning of each statement,
// because a query without parameters may have several.
func transactionCommand(query string) string {
	for rest := query; ; {
		rest = skipSpace(rest)
		words := strings.Fields(strings.ToUpper(rest[:min(len(rest), 200)]))
		if command := endsTransaction(words); command != "" {
			return command
		}
		next := statementEnd(rest)
		if next < 0 {
			return ""
		}
		rest = rest[next+1:]
	}
}

// endsTransaction returns the command if the words are the beginning of a statement that begins or ends a transaction.
func endsTransaction(words []string) string {
	if len(words) == 0 {
		return ""
	}
	command, _, _ := strings.Cut(words[0], ";")
	switch command {
	case "BEGIN", "START", "COMMIT", "END", "ABORT":
		return command
	case "PREPARE":
		if len(words) > 1 && words[1] == "TRANSACTION" {
			return "PREPARE TRANSACTION"
		}
	case "ROLLBACK":
		to := 1
		if len(words) > 1 && (words[1] == "WORK" || words[1] == "TRANSACTION") {
			to = 2
		}
		if strings.Contains(words[0], ";") || len(words) <= to || words[to] != "TO" {
			return command
		}
	}
	return ""
}

// skipSpace removes spaces, comments and empty statements from the beginning of a query.
func skipSpace(query string) string {
	for {
		trimmed := strings.TrimLeft(query, " \t\r\n\f\v;")
		end := commentEnd(trimmed)
		if end == 0 {
			return trimmed
		}
		query = trimmed[end:]
	}
}

// statementEnd returns the index of the first semicolon outside of texts, names and comments, or -1.
func statementEnd(query string) int {
	for i := 0; i < len(query); {
		switch c := query[i]; c {
		case ';':
			return i
		case '\'', '"':
			escapes := c == '\'' && i > 0 && (query[i-1] == 'e' || query[i-1] == 'E')
			i += quotedEnd(query[i:], c, escapes)
		case '$':
			i += dollarEnd(query[i:])
		default:
			i += max(commentEnd(query[i:]), 1)
		}
	}
	return -1
}

// quotedEnd returns the length of the quoted text or name at the beginning of query. A doubled quote, which stands for a quote, ends one text
// and begins the next one.
func quotedEnd(query string, quote byte, escapes bool) int {
	for i := 1; i < len(query); i++ {
		switch {
		case escapes && query[i] == '\\':
			i++
		case query[i] == quote:
			return i + 1
		}
	}
	return len(query)
}

// dollarEnd returns the length of the text $tag$ … $tag$ at the beginning of query, or 1 if the dollar begins a parameter.
func dollarEnd(query string) int {
	length := strings.IndexByte(query[1:], '$')
	if length < 0 || strings.ContainsAny(query[1:length+1], " \t\r\n,;()'\"") || length > 0 && query[1] >= '0' && query[1] <= '9' {
		return 1
	}
	tag := query[:length+2]
	end := strings.Index(query[len(tag):], tag)
	if end < 0 {
		return len(query)
	}
	return end + 2*len(tag)
}

// commentEnd returns the length of the comment at the beginning of query, or 0. Comments between /* and */ may be nested.
func commentEnd(query string) int {
	if strings.HasPrefix(query, "--") {
		if end := strings.IndexByte(query, '\n'); end >= 0 {
			return end + 1
		}
		return len(query)
	}
	if !strings.HasPrefix(query, "/*") {
		return 0
	}
	depth := 0
	for i := 0; i+1 < len(query); i++ {
		switch query[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(query)
}
