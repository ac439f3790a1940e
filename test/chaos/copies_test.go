package chaos_test

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// subscriberFault hits one copy of a subscriber, or changes which copies there are.
func (n *nemesis) subscriberFault(t *testing.T, f fault) func() {
	t.Helper()
	switch f.kind {
	case subscriberInBatch:
		return n.hitInBatch(t, f)
	case subscribersRolled:
		return n.roll(f)
	case copiesChanged:
		return n.changeCopies(t, f)
	case typeDeployed:
		return n.deploy(f)
	}
	return n.process(t, f)
}

// hitInBatch keeps batches from ending, until a copy has a lane's row locked and waits with its effects. Then it kills or freezes the
// copy, and lets everybody else go on.
func (n *nemesis) hitInBatch(t *testing.T, f fault) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tx, err := n.db.BeginTx(ctx, nil)
	if err != nil {
		n.note("%s: nothing came of it: %v", f.kind, err)
		return func() {}
	}
	defer tx.Rollback() //nolint:errcheck // it lets them go on
	_, err = tx.ExecContext(ctx, "LOCK TABLE customer_totals IN SHARE MODE")
	var m *member
	for err == nil && m == nil {
		var name string
		err = n.db.QueryRowContext(ctx, `SELECT coalesce(max(application_name), '') FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND application_name = ANY ($1) AND EXISTS (
				SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid AND relation = 'subscriber_lanes'::regclass AND granted)`,
			n.names(n.subscribing)).Scan(&name)
		if at := slices.IndexFunc(n.subscribing, func(m *member) bool { return m.name == name && !n.hit[m] }); at >= 0 {
			m = n.subscribing[at]
		}
		pause(ctx, 2*time.Millisecond)
	}
	if err != nil {
		n.note("%s: nothing came of it: %v", f.kind, err)
		return func() {}
	}
	n.hit[m] = true
	killed := f.number%2 == 0
	n.note("%s: %s for %s, killed: %t", f.kind, m.name, f.hold, killed)
	if killed {
		m.kill()
		return func() { require.NoError(t, m.start()) }
	}
	m.signal(syscall.SIGSTOP, false)
	return func() { m.signal(syscall.SIGCONT, false) }
}

func (*nemesis) names(members []*member) (names []string) {
	for _, m := range members {
		names = append(names, m.name)
	}
	return names
}

// groupOf returns the subscriber that a fault hits.
func (n *nemesis) groupOf(f fault) *group { return n.groups[f.number%uint64(len(n.groups))] }

// roll stops the copies of a subscriber and starts them again, one after the other.
func (n *nemesis) roll(f fault) func() {
	running := n.groupOf(f).copies
	n.note("%s: %s, %s between two", f.kind, n.names(running), f.hold)
	var rolled sync.WaitGroup
	for _, m := range running {
		n.hit[m] = true
	}
	rolled.Go(func() {
		for _, m := range running {
			m.stop()
			if err := m.start(); err != nil {
				n.complain("%s does not start: %v", m.name, err)
			}
			pause(context.Background(), f.hold)
		}
	})
	return rolled.Wait
}

// changeCopies lets a subscriber have one, two or four copies for a while.
func (n *nemesis) changeCopies(t *testing.T, f fault) func() {
	t.Helper()
	running, spare := n.groupOf(f).copies, n.groupOf(f).spare
	if stopped := int(f.number >> 8 % uint64(len(running))); stopped > 0 {
		n.note("%s: %s stop for %s", f.kind, n.names(running[:stopped]), f.hold)
		for _, m := range running[:stopped] {
			n.hit[m] = true
			m.stop()
		}
		return func() {
			for _, m := range running[:stopped] {
				require.NoError(t, m.start())
			}
		}
	}
	n.note("%s: %s runs for %s", f.kind, spare.name, f.hold)
	require.NoError(t, spare.start())
	return spare.stop
}

// lockTotals locks all rows of totals, so that transactions which change one wait.
func (n *nemesis) lockTotals() func() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tx, err := n.db.BeginTx(ctx, nil)
	if err != nil {
		cancel()
		n.note("nothing came of it: %v", err)
		return func() {}
	}
	_, err = tx.ExecContext(ctx, "SELECT FROM customer_totals ORDER BY subscriber, customer_id, currency FOR UPDATE")
	n.note("totals are locked: %v", err)
	return func() {
		_ = tx.Rollback()
		cancel()
	}
}
