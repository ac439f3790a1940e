package postgres

import (
	"context"
	"time"
)

// Every statement, and every wait for a free connection, ends by itself. These are the limits of one statement.
const (
	// statementTimeout limits a statement whose caller sets no earlier deadline. It is longer than abandonedAfter. So if a statement waits
	// for a transaction whose client is gone, Postgres ends that transaction first, and the statement goes on.
	statementTimeout = 15 * time.Second

	// answerWithin limits each of the relay's statements, most of which take milliseconds. A frozen backend or a stuck pooler never
	// answers. The lease is renewed over another connection, so no other instance would take over. Therefore the relay has to give up and
	// try again. The same limit holds for calls that ask Postgres for no work: a ping, and ROLLBACK.
	answerWithin = 5 * time.Second
)

// allowance is how many times longer than statementTimeout a statement may take. The constants are all exceptions.
type allowance int

const (
	// ordinary is the usual limit. It ends an earlier allowance of the context.
	ordinary allowance = 1
	// counting is for operators. Their statements may count or search all of a large table. One minute.
	counting allowance = 4
	// migrating is for changes of the schema. The building of an index reads all of a large table, and waits for every transaction that was
	// open when it began. A day. The migrator limits its waits for locks itself.
	migrating allowance = 4 * 60 * 24
	// connecting is for the opening of a connection: the name is looked up, and each host of DATABASE_URL has its own connect_timeout. One
	// minute.
	connecting allowance = 4
)

type allowanceKey struct{}

// allow returns a context whose statements may take longer.
func allow(ctx context.Context, a allowance) context.Context {
	return context.WithValue(ctx, allowanceKey{}, a)
}

// changesSchema reports whether ctx is the context of a migration.
func changesSchema(ctx context.Context) bool {
	a, ok := ctx.Value(allowanceKey{}).(allowance)
	return ok && a == migrating
}

// bound returns how long a statement with the context ctx may take. Without an allowance that is usual.
func bound(ctx context.Context, usual time.Duration) time.Duration {
	if a, ok := ctx.Value(allowanceKey{}).(allowance); ok {
		return usual * time.Duration(a)
	}
	return usual
}
