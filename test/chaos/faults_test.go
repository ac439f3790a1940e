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

// begin brings a fault about and returns what ends it. It fails the test when our own servers do not do what they are
// told; what the program does is not judged here.
func (n *nemesis) begin(t *testing.T, f fault) (end func()) {
	t.Helper()
	switch f.area {
	case instances:
		return n.process(t, f)
	case subscribers:
		return n.subscriberFault(t, f)
	case postgresServer:
		return n.postgresFault(t, f)
	case natsServer:
		return n.natsFault(t, f)
	case networks:
		return n.networkFault(f)
	case transactions:
		return n.transactionFault(t, f)
	case damages:
		return n.damage(t, f)
	case letters:
		return n.decideLetters(f)
	case moves:
		return n.move(f)
	case endpoint:
		return n.receiver.misbehave(n, f)
	default:
		return n.lotFault(f)
	}
}

func (n *nemesis) process(t *testing.T, f fault) func() {
	t.Helper()
	among := n.serving
	if f.area == subscribers {
		among = n.subscribing
	}
	m := n.pick(f, among)
	n.note("%s: %s for %s", f.kind, m.name, f.hold)
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

func (n *nemesis) postgresFault(t *testing.T, f fault) func() {
	t.Helper()
	n.note("%s for %s", f.kind, f.hold)
	switch f.kind {
	case postgresKilled:
		n.postgres.Kill()
		return n.postgres.Start
	case postgresSwitched:
		return n.switchOver(t)
	case settingsChanged:
		return n.changeSettings(t, f)
	case databaseReadOnly:
		return n.keepFromWriting(t)
	case backendsTerminated:
		_ = n.statement(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5`)
	case backendKilled:
		var pid int
		if err := n.db.QueryRow(`SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`).Scan(&pid); err == nil && pid > 1 {
			n.note("backend %d", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return func() {}
}

func (n *nemesis) natsFault(t *testing.T, f fault) func() {
	t.Helper()
	n.note("%s for %s", f.kind, f.hold)
	switch f.kind {
	case natsKilled:
		n.broker.kill()
		return func() { require.NoError(t, n.broker.start()) }
	case natsStalled:
		_ = n.broker.cmd.Process.Signal(syscall.SIGSTOP)
		return func() { _ = n.broker.cmd.Process.Signal(syscall.SIGCONT) }
	case natsOlder:
		return n.rollBackVersion(t)
	case streamChanged:
		return n.changeStream(t, f)
	case streamLimited:
		return n.limitStream(t, f)
	}
	if !n.repairing.TryLock() { // an old store that came back after the repair would be one more damage, which nobody repairs
		n.note("%s: nothing came of it, a damage is being repaired", f.kind)
		return func() {}
	}
	n.broker.kill()
	old, err := n.broker.copyStore()
	require.NoError(t, err)
	require.NoError(t, n.broker.start())
	return func() {
		defer n.repairing.Unlock()
		n.broker.kill()
		require.NoError(t, n.broker.rollBack(old))
		require.NoError(t, n.broker.start())
	}
}

// networkFault takes one process' connections to Postgres, to NATS, or to both. Half of the time it is both, and mostly
// what was held back goes on in the end: a leader that is cut off from everything is followed, and then its last words
// arrive.
func (n *nemesis) networkFault(f fault) func() {
	among := n.serving
	if f.number%4 == 0 {
		among, f.area = n.subscribing, subscribers
	}
	m := n.pick(f, among)
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
			// A cut is not at once everywhere. What is read from Postgres until then gets stuck on its way to NATS.
			pause(context.Background(), 50*time.Millisecond)
		}
		n.note("%s between %s and %s for %s; what is held back may go on: %t", state, m.name, p.name, f.hold, resume)
		p.become(state, state != cut)
	}
	return func() {
		for _, p := range proxies {
			p.become(passing, resume || state == slow)
		}
	}
}

// transactionFault leaves a transaction open that has appended: everything behind it waits. A prepared one outlives its
// connection, and the server.
func (n *nemesis) transactionFault(t *testing.T, f fault) func() {
	t.Helper()
	n.note("%s for %s", f.kind, f.hold)
	if f.kind == totalsLocked {
		return n.lockTotals()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tx, err := n.db.BeginTx(ctx, nil)
	if err != nil {
		cancel()
		n.note("nothing came of it: %v", err)
		return func() {}
	}
	event, err := appendEvent(ctx, tx, uuid.New(), special{})
	if err != nil {
		n.note("nothing came of it: %v", err)
	}
	commit := f.number%2 == 0
	if f.kind == transactionOpen {
		return func() {
			defer cancel()
			if err == nil && commit {
				if tx.Commit() == nil {
					n.ledger.Committed(event)
				}
				return
			}
			_ = tx.Rollback()
			n.ledger.RolledBack(event)
		}
	}
	name := fmt.Sprintf("chaos-%x", f.number)
	if err == nil {
		if _, err := tx.ExecContext(ctx, "PREPARE TRANSACTION '"+name+"'"); err != nil {
			n.note("it was not prepared, or was, and the answer is lost: %v", err)
		}
	}
	_ = tx.Rollback() // the connection is out of a transaction by now
	cancel()
	return func() { n.finishPrepared(t, name, event, commit) }
}

// finishPrepared ends what was prepared, if it was: its preparation may have been lost with the server. Nothing is
// claimed about the event unless the answer says so.
func (n *nemesis) finishPrepared(t *testing.T, name string, event checker.ID, commit bool) {
	t.Helper()
	verb, claim := "ROLLBACK", n.ledger.RolledBack
	if commit {
		verb, claim = "COMMIT", n.ledger.Committed
	}
	require.Eventually(t, func() bool {
		var left int
		if n.db.QueryRow("SELECT count(*) FROM pg_prepared_xacts WHERE gid = $1", name).Scan(&left) != nil {
			return false
		}
		if left > 0 && n.statement(verb+" PREPARED '"+name+"'") == nil {
			claim(event)
			return true
		}
		return left == 0
	}, patience, 50*time.Millisecond, "prepared transaction %s cannot be ended", name)
}

func (n *nemesis) statement(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := n.db.ExecContext(ctx, text)
	return err
}

// holder is who leads, as far as that can be known.
func (n *nemesis) holder() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var name sql.NullString
	_ = n.db.QueryRowContext(ctx, "SELECT holder FROM leases").Scan(&name)
	return name.String
}
