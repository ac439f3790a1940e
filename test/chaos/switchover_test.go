package chaos_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// switchOver creates a standby and promotes it without losing a transaction. The former primary comes back as a standby. Until the fault ends,
// the address that the processes know still leads to this standby. The standby keeps running, so that connections to it do not end by
// themselves.
func (in *injector) switchOver(t *testing.T) func() {
	t.Helper()
	if in.former != nil {
		in.former.Stop()
	}
	standby := infra.Standby(t, in.postgres)
	require.Eventually(t, func() bool {
		var streaming int
		err := in.db.QueryRow("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL").Scan(&streaming)
		return err == nil && streaming > 0
	}, waitTimeout, 20*time.Millisecond, "the standby does not follow")
	address, err := url.Parse(standby.URL)
	require.NoError(t, err)
	in.former = in.postgres
	in.former.Stop() // waits until the standby has everything
	in.primary.Move(address.Host)
	in.postgres = standby
	require.Eventually(t, func() bool { return in.statement("SELECT pg_promote()") == nil }, waitTimeout, 50*time.Millisecond)
	in.former.StartAsStandby()
	in.note("the primary is at %s; the name still leads to the former one", address.Host)
	return func() {
		for _, m := range in.members() {
			m.postgres.lead(address.Host)
		}
	}
}
