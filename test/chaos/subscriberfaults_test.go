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
func (in *injector) subscriberFault(t *testing.T, f fault) func() {
	t.Helper()
	switch f.kind {
	case subscriberInBatch:
		return in.hitInBatch(t, f)
	case subscribersRolled:
		return in.roll(f)
	case copiesChanged:
		return in.changeCopies(t, f)
	case typeDeployed:
		return in.deploy(f)
	}
	return in.process(t, f)
}

// hitInBatch kills or freezes a copy within a batch. It locks the totals until a copy has locked a lane's row and waits for them, and releases
// them when that copy is hit.
func (in *injector) hitInBatch(t *testing.T, f fault) func() {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tx, err := in.db.BeginTx(ctx, nil)
	if err != nil {
		in.note("%s: no effect: %v", f.kind, err)
		return func() {}
	}
	defer tx.Rollback() //nolint:errcheck // releases the totals
	_, err = tx.ExecContext(ctx, "LOCK TABLE customer_totals IN SHARE MODE")
	var m *member
	for err == nil && m == nil {
		var name string
		err = in.db.QueryRowContext(ctx, `SELECT coalesce(max(application_name), '') FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND application_name = ANY ($1) AND EXISTS (
				SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid AND relation = 'subscriber_lanes'::regclass AND granted)`,
			in.names(in.subscribing)).Scan(&name)
		if at := slices.IndexFunc(in.subscribing, func(m *member) bool { return m.name == name && !in.hit[m] }); at >= 0 {
			m = in.subscribing[at]
		}
		pause(ctx, 2*time.Millisecond)
	}
	if err != nil {
		in.note("%s: no effect: %v", f.kind, err)
		return func() {}
	}
	in.hit[m] = true
	killed := f.number%2 == 0
	in.note("%s: %s for %s, killed: %t", f.kind, m.name, f.hold, killed)
	if killed {
		m.kill()
		return func() { require.NoError(t, m.start()) }
	}
	m.signal(syscall.SIGSTOP, false)
	return func() { m.signal(syscall.SIGCONT, false) }
}

func (*injector) names(members []*member) (names []string) {
	for _, m := range members {
		names = append(names, m.name)
	}
	return names
}

// groupOf returns the subscriber that a fault hits.
func (in *injector) groupOf(f fault) *group { return in.groups[f.number%uint64(len(in.groups))] }

// roll stops the copies of a subscriber and starts them again, one after the other.
func (in *injector) roll(f fault) func() {
	running := in.groupOf(f).copies
	in.note("%s: %s, %s between two", f.kind, in.names(running), f.hold)
	var rolled sync.WaitGroup
	for _, m := range running {
		in.hit[m] = true
	}
	rolled.Go(func() {
		for _, m := range running {
			m.stop()
			if err := m.start(); err != nil {
				in.report("%s does not start: %v", m.name, err)
			}
			pause(context.Background(), f.hold)
		}
	})
	return rolled.Wait
}

// changeCopies stops some copies of a subscriber for a while, or runs its spare copy.
func (in *injector) changeCopies(t *testing.T, f fault) func() {
	t.Helper()
	running, spare := in.groupOf(f).copies, in.groupOf(f).spare
	if stopped := int(f.number >> 8 % uint64(len(running))); stopped > 0 {
		in.note("%s: %s stop for %s", f.kind, in.names(running[:stopped]), f.hold)
		for _, m := range running[:stopped] {
			in.hit[m] = true
			m.stop()
		}
		return func() {
			for _, m := range running[:stopped] {
				require.NoError(t, m.start())
			}
		}
	}
	in.note("%s: %s runs for %s", f.kind, spare.name, f.hold)
	require.NoError(t, spare.start())
	return spare.stop
}

// lockTotals locks all rows of totals, so that every transaction that changes one waits.
func (in *injector) lockTotals() func() {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	tx, err := in.db.BeginTx(ctx, nil)
	if err != nil {
		cancel()
		in.note("no effect: %v", err)
		return func() {}
	}
	_, err = tx.ExecContext(ctx, "SELECT FROM customer_totals ORDER BY subscriber, customer_id, currency FOR UPDATE")
	in.note("totals are locked: %v", err)
	return func() {
		_ = tx.Rollback()
		cancel()
	}
}
