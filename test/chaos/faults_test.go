package chaos_test

import (
	"context"
	"database/sql"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// begin causes a fault and returns a function that ends it. It fails the test when a server of the test does not obey. It does not judge the
// program.
func (in *injector) begin(t *testing.T, f fault) (end func()) {
	t.Helper()
	switch f.area {
	case instances:
		return in.process(t, f)
	case subscribers:
		return in.subscriberFault(t, f)
	case postgresServer:
		return in.postgresFault(t, f)
	case natsServer:
		return in.natsFault(t, f)
	case networks:
		return in.networkFault(f)
	case transactions:
		return in.transactionFault(t, f)
	case damages:
		return in.damage(t, f)
	case letters:
		return in.decideLetters(f)
	case moves:
		return in.move(f)
	case endpoint:
		return in.receiver.misbehave(in, f)
	default:
		return in.parkingFault(f)
	}
}

func (in *injector) process(t *testing.T, f fault) func() {
	t.Helper()
	among := in.serving
	if f.area == subscribers {
		among = in.subscribing
	}
	m := in.pick(f, among)
	in.note("%s: %s for %s", f.kind, m.name, f.hold)
	again := func() { require.NoError(t, m.start()) }
	switch f.kind {
	case instanceKilled, subscriberKilled:
		m.kill()
	case instanceTerminated, subscriberTerminated:
		m.stop()
	default:
		m.signal(syscall.SIGSTOP, false)
		again = func() { m.signal(syscall.SIGCONT, false) }
	}
	return again
}

func (in *injector) postgresFault(t *testing.T, f fault) func() {
	t.Helper()
	in.note("%s for %s", f.kind, f.hold)
	switch f.kind {
	case postgresKilled:
		in.postgres.Kill()
		return in.postgres.Start
	case postgresSwitched:
		return in.switchOver(t)
	case settingsChanged:
		return in.changeSettings(t, f)
	case databaseReadOnly:
		return in.makeReadOnly(t)
	case backendsTerminated:
		_ = in.statement(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5`)
	case backendKilled:
		var pid int
		if err := in.db.QueryRow(`SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`).Scan(&pid); err == nil && pid > 1 {
			in.note("backend %d", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return func() {}
}

func (in *injector) natsFault(t *testing.T, f fault) func() {
	t.Helper()
	in.note("%s for %s", f.kind, f.hold)
	switch f.kind {
	case natsKilled:
		in.broker.kill()
		return func() { require.NoError(t, in.broker.start()) }
	case natsStalled:
		_ = in.broker.cmd.Process.Signal(syscall.SIGSTOP)
		return func() { _ = in.broker.cmd.Process.Signal(syscall.SIGCONT) }
	case natsOlder:
		return in.rollBackVersion(t)
	case streamChanged:
		return in.changeStream(t, f)
	case streamLimited:
		return in.limitStream(t, f)
	}
	if !in.repairing.TryLock() { // an old store that came back after the repair would be one more damage, which nobody repairs
		in.note("%s: skipped, a damage is being repaired", f.kind)
		return func() {}
	}
	in.broker.kill()
	old, err := in.broker.copyStore()
	require.NoError(t, err)
	require.NoError(t, in.broker.start())
	return func() {
		defer in.repairing.Unlock()
		in.broker.kill()
		require.NoError(t, in.broker.rollBack(old))
		require.NoError(t, in.broker.start())
	}
}

// networkFault disturbs one process's connections to Postgres, to NATS, or, half of the time, to both. Three times in four, the held-back bytes
// are delivered in the end. Then a leader that was cut off writes after its successor took over.
func (in *injector) networkFault(f fault) func() {
	among := in.serving
	if f.number%4 == 0 {
		among, f.area = in.subscribing, subscribers
	}
	m := in.pick(f, among)
	proxies := []*proxy{m.nats, m.postgres}
	switch f.number >> 8 % 4 {
	case 0:
		proxies = proxies[1:]
	case 1:
		proxies = proxies[:1]
	}
	state := map[kind]network{networkCut: cut, networkSlow: slow, networkHalfOpen: silent, networkOneWay: deafened, networkStranded: stranded}[f.kind]
	if state == deafened && f.number>>16%2 == 0 {
		state = muted
	}
	resume := f.number>>24%4 != 0
	for i, p := range proxies {
		if i > 0 {
			// A network does not fail everywhere in the same moment. Events read from Postgres until then are stuck on their way to NATS.
			pause(context.Background(), 50*time.Millisecond)
		}
		in.note("%s between %s and %s for %s; what is held back may go on: %t", state, m.name, p.name, f.hold, resume)
		p.become(state, state != cut)
	}
	return func() {
		for _, p := range proxies {
			p.become(passing, resume || state == slow)
		}
	}
}

// transactionFault leaves a transaction open that has appended an event: all later positions wait. A prepared transaction survives its
// connection, and a restart of the server.
func (in *injector) transactionFault(t *testing.T, f fault) func() {
	t.Helper()
	in.note("%s for %s", f.kind, f.hold)
	if f.kind == totalsLocked {
		return in.lockTotals()
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	tx, err := in.db.BeginTx(ctx, nil)
	if err != nil {
		cancel()
		in.note("no effect: %v", err)
		return func() {}
	}
	event, err := appendEvent(ctx, tx, uuid.New(), special{})
	if err != nil {
		in.note("no effect: %v", err)
	}
	commit := f.number%2 == 0
	if f.kind == transactionOpen {
		return func() {
			defer cancel()
			if err == nil && commit {
				if tx.Commit() == nil {
					in.ledger.Committed(event)
				}
				return
			}
			_ = tx.Rollback()
			in.ledger.RolledBack(event)
		}
	}
	name := fmt.Sprintf("chaos-%x", f.number)
	if err == nil {
		if _, err := tx.ExecContext(ctx, "PREPARE TRANSACTION '"+name+"'"); err != nil {
			in.note("it was not prepared, or was, and the answer is lost: %v", err)
		}
	}
	_ = tx.Rollback() // ends the transaction if it was not prepared
	cancel()
	return func() { in.finishPrepared(t, name, event, commit) }
}

// finishPrepared commits or rolls back the prepared transaction, if it exists: it may have been lost with the server. The ledger records
// the event only if the server confirms the outcome.
func (in *injector) finishPrepared(t *testing.T, name string, event checker.ID, commit bool) {
	t.Helper()
	verb, claim := "ROLLBACK", in.ledger.RolledBack
	if commit {
		verb, claim = "COMMIT", in.ledger.Committed
	}
	require.Eventually(t, func() bool {
		var left int
		if in.db.QueryRow("SELECT count(*) FROM pg_prepared_xacts WHERE gid = $1", name).Scan(&left) != nil {
			return false
		}
		if left > 0 && in.statement(verb+" PREPARED '"+name+"'") == nil {
			claim(event)
			return true
		}
		return left == 0
	}, waitTimeout, 50*time.Millisecond, "prepared transaction %s cannot be ended", name)
}

func (in *injector) statement(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := in.db.ExecContext(ctx, text)
	return err
}

// holder returns the name of the leader by the lease; empty: unknown.
func (in *injector) holder() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var name sql.NullString
	_ = in.db.QueryRowContext(ctx, "SELECT holder FROM leases").Scan(&name)
	return name.String
}
