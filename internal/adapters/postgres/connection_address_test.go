package postgres_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestTheEnvironmentDoesNotChangeACompleteURL checks that a complete URL wins over every environment variable that Postgres
// clients read.
func TestTheEnvironmentDoesNotChangeACompleteURL(t *testing.T) {
	url := infra.Database(t)
	require.Contains(t, url, "sslmode=", "or the test is none")
	_, name := split(t, url)
	for variable, value := range map[string]string{
		"PGHOST": "nowhere.invalid", "PGPORT": "1", "PGDATABASE": "nothing", "PGUSER": "nobody", "PGPASSWORD": "wrong",
		"PGAPPNAME": "other", "PGCONNECT_TIMEOUT": "nonsense", "PGSSLSNI": "0", "PGSSLNEGOTIATION": "direct",
		"PGTARGETSESSIONATTRS": "standby", "PGSERVICE": "elsewhere", "PGSERVICEFILE": "/nonexistent", "PGTZ": "Asia/Kathmandu",
		"PGOPTIONS": "-c default_transaction_read_only=on", "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "9.9",
		"PGSSLMODE": "verify-full",
	} {
		t.Setenv(variable, value)
	}
	db := open(t, postgres.Options{URL: url})
	requireOdd(t, db, map[string]string{"TimeZone": "UTC", "transaction_read_only": "off", "application_name": "outboxie"})
	var is string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&is))
	require.Equal(t, name, is)
	require.Equal(t, "elsewhere", os.Getenv("PGSERVICE"), "the environment is as it was")
	require.Len(t, postgres.IgnoredVariables(), 15, "all of them but the password and sslmode, which is in the URL")
}

// TestProtectionsOfTheEnvironmentAreNotLost checks that Open fails if an environment variable asks for a safer connection than
// the URL does.
func TestProtectionsOfTheEnvironmentAreNotLost(t *testing.T) {
	for variable, setting := range map[string]string{
		"PGSSLMODE": "sslmode=verify-full", "PGREQUIREAUTH": "require_auth=scram-sha-256", "PGCHANNELBINDING": "channel_binding=require",
		"PGSSLCERTMODE": "sslcertmode=require",
	} {
		t.Run(variable, func(t *testing.T) {
			_, value, _ := cut(setting)
			t.Setenv(variable, value)
			_, err := postgres.Open(postgres.Options{URL: "postgres://u:p@127.0.0.1:1/db"})
			require.ErrorIs(t, err, postgres.ErrURL)
			require.ErrorContains(t, err, "write "+setting+" into DATABASE_URL, or unset "+variable)
			open(t, postgres.Options{URL: "postgres://u:p@127.0.0.1:1/db?" + setting})
		})
	}
}

// TestAPasswordMayStandElsewhere checks that a password that is missing in the URL is read from PGPASSWORD or from the password
// file.
func TestAPasswordMayStandElsewhere(t *testing.T) {
	url := infra.Database(t)
	password, without := withoutPassword(t, url)
	t.Run("PGPASSWORD", func(t *testing.T) {
		t.Setenv("PGPASSWORD", password)
		require.NoError(t, open(t, postgres.Options{URL: without}).PingContext(t.Context()))
	})
	t.Run("PGPASSFILE", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pass")
		require.NoError(t, os.WriteFile(file, []byte("*:*:*:*:"+password+"\n"), 0o600))
		t.Setenv("PGPASSFILE", file)
		require.NoError(t, open(t, postgres.Options{URL: without}).PingContext(t.Context()))
	})
}

// TestOperatorGrant checks that the statement names the role of the URL, with quotes only if it needs them.
func TestOperatorGrant(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://outboxie_relay:secret@db/shop": "GRANT outboxie_operator TO outboxie_relay",
		"postgres://Our%20%22relay@db/shop":        `GRANT outboxie_operator TO "Our ""relay"`,
		"://":                                      "",
	} {
		require.Equal(t, want, postgres.OperatorGrant(url))
	}
}
