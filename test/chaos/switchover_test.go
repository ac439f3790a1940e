package chaos_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// switchOver makes a standby, and the standby the primary, in order: nothing is lost. The former primary comes back as a standby,
// and the name that the processes know leads to it until the fault is over. It stays there, so that connections to it do not end by
// themselves.
func (n *nemesis) switchOver(t *testing.T) func() {
	t.Helper()
	if n.former != nil {
		n.former.Stop()
	}
	standby := infra.Standby(t, n.postgres)
	require.Eventually(t, func() bool {
		var streaming int
		err := n.db.QueryRow("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL").Scan(&streaming)
		return err == nil && streaming > 0
	}, patience, 20*time.Millisecond, "the standby does not follow")
	address, err := url.Parse(standby.URL)
	require.NoError(t, err)
	n.former = n.postgres
	n.former.Stop() // waits until the standby has everything
	n.primary.Move(address.Host)
	n.postgres = standby
	require.Eventually(t, func() bool { return n.statement("SELECT pg_promote()") == nil }, patience, 50*time.Millisecond)
	n.former.Demote()
	n.note("the primary is at %s; the name still leads to the former one", address.Host)
	return func() {
		for _, m := range n.members() {
			m.postgres.lead(address.Host)
		}
	}
}
