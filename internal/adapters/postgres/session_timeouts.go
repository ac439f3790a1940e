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

// timeFactor is how many times longer than statementTimeout a statement may take. A context without a factor has usualTime.
type timeFactor int

const (
	// usualTime ends an earlier factor of the context.
	usualTime timeFactor = 1
	// operatorTime is for operators. Their statements may count or search all of a large table. One minute.
	operatorTime timeFactor = 4
	// migrationTime is for changes of the schema. The building of an index reads all of a large table, and waits for every transaction that was
	// open when it began. A day. The migrator limits its waits for locks itself.
	migrationTime timeFactor = 4 * 60 * 24
	// connectTime is for the opening of a connection: the name is looked up, and each host of DATABASE_URL has its own connect_timeout. One
	// minute.
	connectTime timeFactor = 4
)

type timeFactorKey struct{}

// allow returns a context whose statements may take longer.
func allow(ctx context.Context, a timeFactor) context.Context {
	return context.WithValue(ctx, timeFactorKey{}, a)
}

// changesSchema reports whether ctx is the context of a migration.
func changesSchema(ctx context.Context) bool {
	a, ok := ctx.Value(timeFactorKey{}).(timeFactor)
	return ok && a == migrationTime
}

// timeoutFor returns how long a statement with the context ctx may take. Without a factor that is usual.
func timeoutFor(ctx context.Context, usual time.Duration) time.Duration {
	if a, ok := ctx.Value(timeFactorKey{}).(timeFactor); ok {
		return usual * time.Duration(a)
	}
	return usual
}
