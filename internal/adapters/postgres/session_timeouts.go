package postgres

import (
	"context"
	"time"
)

// Every statement, and every wait for a free connection, ends by itself. The bounds of one statement stand here.
const (
	// statementTimeout bounds a statement whose caller sets no earlier deadline. It exceeds abandonedAfter: a statement that
	// waits for a transaction whose client is gone goes on when Postgres has ended that transaction.
	statementTimeout = 15 * time.Second

	// answerWithin bounds each of the relay's statements, most of which take milliseconds. A backend that is frozen, or a pooler
	// that is stuck, answers nothing at all, and the lease, which is renewed over another connection, would keep every other
	// instance from trying: so the relay has to give up and try again. The same bound holds for what asks Postgres to do no
	// work: a ping, and ROLLBACK.
	answerWithin = 5 * time.Second
)

// allowance is how many times longer than statementTimeout a statement may take. These are all exceptions.
type allowance int

const (
	// ordinary takes an allowance back.
	ordinary allowance = 1
	// counting is for operators: their statements may count or search all of a large table. One minute.
	counting allowance = 4
	// migrating is for changes of the schema: building an index reads all of a large table, and waits for every transaction
	// that was open when it began. A day. The migrator bounds its waits for locks by itself.
	migrating allowance = 4 * 60 * 24
	// connecting is for opening a connection: the name is looked up, and each host of DATABASE_URL gets its own
	// connect_timeout. One minute.
	connecting allowance = 4
)

type allowanceKey struct{}

// allow returns a context whose statements may take longer.
func allow(ctx context.Context, a allowance) context.Context {
	return context.WithValue(ctx, allowanceKey{}, a)
}

// changesSchema reports whether ctx is that of a migration.
func changesSchema(ctx context.Context) bool {
	a, ok := ctx.Value(allowanceKey{}).(allowance)
	return ok && a == migrating
}

// bound is how long a statement under ctx may take, where others may take usual.
func bound(ctx context.Context, usual time.Duration) time.Duration {
	if a, ok := ctx.Value(allowanceKey{}).(allowance); ok {
		return usual * time.Duration(a)
	}
	return usual
}
