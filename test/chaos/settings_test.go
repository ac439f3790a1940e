package chaos_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fixedSettings are the settings of the test's own sessions, which no fault changes.
const fixedSettings = "&default_transaction_read_only=off&default_transaction_isolation=read%20committed&statement_timeout=0&datestyle=ISO&timezone=UTC"

// unusualSettings are settings of the database under which many programs fail.
var unusualSettings = []string{
	"datestyle = 'German, DMY'", "bytea_output = 'escape'", "timezone = 'Asia/Kathmandu'", "standard_conforming_strings = off",
	"client_encoding = 'LATIN1'", "default_transaction_isolation = 'serializable'", "quote_all_identifiers = on",
	"statement_timeout = '1ms'", "lock_timeout = '1ms'", "synchronous_commit = 'remote_apply'", "extra_float_digits = -15",
}

// changeSettings gives the database half of the unusual settings, and ends half of the sessions, so that new sessions begin with them.
func (in *injector) changeSettings(t *testing.T, f fault) func() {
	t.Helper()
	for i, setting := range unusualSettings {
		if f.number>>i%2 == 0 {
			in.alter(t, "SET "+setting)
		}
	}
	in.endSessions()
	return func() { in.alter(t, "RESET ALL") }
}

// makeReadOnly makes the database read-only for sessions that begin during the fault. These sessions stay read-only until they end.
func (in *injector) makeReadOnly(t *testing.T) func() {
	t.Helper()
	in.alter(t, "SET default_transaction_read_only = on")
	in.endSessions()
	return func() { in.alter(t, "RESET default_transaction_read_only") }
}

func (in *injector) alter(t *testing.T, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return in.statement("ALTER DATABASE outboxie "+what) == nil }, waitTimeout, 50*time.Millisecond, what)
}

// endSessions ends half of the sessions that are not the test's own.
func (in *injector) endSessions() {
	_ = in.statement(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name <> '' AND random() < 0.5`)
}
