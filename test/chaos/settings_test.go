package chaos_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// settled are the settings of the test's own sessions, which stay as they are.
const settled = "&default_transaction_read_only=off&default_transaction_isolation=read%20committed&statement_timeout=0&datestyle=ISO&timezone=UTC"

// oddities are settings of the database under which other programs fail.
var oddities = []string{
	"datestyle = 'German, DMY'", "bytea_output = 'escape'", "timezone = 'Asia/Kathmandu'", "standard_conforming_strings = off",
	"client_encoding = 'LATIN1'", "default_transaction_isolation = 'serializable'", "quote_all_identifiers = on",
	"statement_timeout = '1ms'", "lock_timeout = '1ms'", "synchronous_commit = 'remote_apply'", "extra_float_digits = -15",
}

// changeSettings gives the database half of the oddities, and ends half of the sessions, so that others begin under them.
func (n *nemesis) changeSettings(t *testing.T, f fault) func() {
	t.Helper()
	for i, oddity := range oddities {
		if f.number>>i%2 == 0 {
			n.alter(t, "SET "+oddity)
		}
	}
	n.endSessions()
	return func() { n.alter(t, "RESET ALL") }
}

// keepFromWriting makes the database read-only: sessions that begin meanwhile stay so.
func (n *nemesis) keepFromWriting(t *testing.T) func() {
	t.Helper()
	n.alter(t, "SET default_transaction_read_only = on")
	n.endSessions()
	return func() { n.alter(t, "RESET default_transaction_read_only") }
}

func (n *nemesis) alter(t *testing.T, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return n.statement("ALTER DATABASE outboxie "+what) == nil }, patience, 50*time.Millisecond, what)
}

// endSessions ends half of the sessions that are not the test's own.
func (n *nemesis) endSessions() {
	_ = n.statement(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name <> '' AND random() < 0.5`)
}
