package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
)

const billing = "DATABASE_URL=postgres://me:s3cret@db/billing\nSTREAM_NAME=BILLING\nSTREAM_SUBJECTS=billing.>\nEVENT_SOURCE=/acme/billing\n"

func settingsFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// TestRelays checks that a file of a relay wins over the environment, and that comments, empty lines, spaces and quotes do not count.
func TestRelays(t *testing.T) {
	file := settingsFile(t, "billing.env", "# of the team billing\n\n"+billing+" OUTBOX_RETENTION = \"168h\"\r\nNATS_URL='nats://b:4222'\n")
	relays, err := config.Relays([]string{"NATS_URL=nats://a:4222", "OUTBOX_LEASE_TTL=5s", "STREAM_NAME=ELSE"}, []string{file})
	require.NoError(t, err)
	require.Len(t, relays, 1)
	c := relays[0].Config
	require.Equal(t, "billing", relays[0].Name)
	require.Equal(t, "BILLING", c.Stream.Name)
	require.EqualValues(t, "nats://b:4222", c.NATS.URL)
	require.Equal(t, "168h0m0s", c.Outbox.Retention.String())
	require.Equal(t, "5s", c.Outbox.LeaseTTL.String())
	require.False(t, relays[0].Exposed)

	require.NoError(t, os.Chmod(file, 0o644)) //nolint:gosec // that is what the test is about
	relays, err = config.Relays(nil, []string{file})
	require.NoError(t, err)
	require.True(t, relays[0].Exposed)
}

// TestRelayWithoutFiles checks that the environment alone describes one relay, which has no default of the order service.
func TestRelayWithoutFiles(t *testing.T) {
	relays, err := config.Relays(strings.Split(billing, "\n"), nil)
	require.NoError(t, err)
	require.Len(t, relays, 1)
	require.Equal(t, "BILLING", relays[0].Name)
	_, err = config.Relays([]string{"DATABASE_URL=postgres://me@db/billing"}, nil)
	for _, name := range []string{"STREAM_NAME", "STREAM_SUBJECTS", "EVENT_SOURCE"} {
		require.ErrorContains(t, err, name+" is not set")
	}
}

// TestAllProblemsOfFiles checks that the problems of all files are reported at once, each with its file and line and without a secret.
func TestAllProblemsOfFiles(t *testing.T) {
	first := settingsFile(t, "first.env", billing+"OUTBOX_LEASE_TTL=1h\nADMIN_ADDR=:8090\n")
	second := settingsFile(t, "second.env", "DATABASE_URL=postgres://me:s3cret@db/x y\nSTREAM_NAME=A\n")
	third := settingsFile(t, "third.env", "export s3cret\nDATABASE_URL=postgres://a/b\nDATABASE_URL=postgres://a/c\nOUTBOX_LEASE=3s\n")
	missing := filepath.Join(t.TempDir(), "missing.env")
	odd := settingsFile(t, "b c.env", billing)
	folder := t.TempDir()
	_, err := config.Relays(nil, []string{first, second, third, missing, odd, folder})
	for _, expected := range []string{
		first + ":5: OUTBOX_LEASE_TTL is \"1h0m0s\"; it must be a duration from 500ms to 10m",
		first + ":6: ADMIN_ADDR belongs to the process",
		second + ": STREAM_SUBJECTS is not set",
		second + ": EVENT_SOURCE is not set",
		third + ":1: the line must have the form NAME=value",
		third + ":3: DATABASE_URL is set in line 2 already",
		third + ":4: OUTBOX_LEASE is not a setting",
		missing + " cannot be read: no such file or directory",
		odd + ": the file's name without its ending is the name of the relay",
		folder + " cannot be read: it is not a file",
	} {
		require.ErrorContains(t, err, expected)
	}
	require.NotContains(t, err.Error(), "s3cret")
}

// TestRelaysThatClash checks that two files with one database and stream, one broker and stream, or one name are refused.
func TestRelaysThatClash(t *testing.T) {
	with := func(database, stream, broker string) string {
		return "DATABASE_URL=" + database + "\nSTREAM_NAME=" + stream + "\nNATS_URL=" + broker + "\nSTREAM_SUBJECTS=a.>\nEVENT_SOURCE=/a\n"
	}
	base := settingsFile(t, "base.env", with("postgres://me:one@DB/billing?sslmode=disable", "A", "nats://a:4222"))
	for name, test := range map[string]struct{ file, problem string }{
		"database":        {settingsFile(t, "x.env", with("postgres://other:two@db:5432/billing", "A", "nats://b:4222")), "the same database and the same STREAM_NAME"},
		"database, hosts": {settingsFile(t, "x.env", with("postgres://other:two@/billing?host=db&port=5432", "A", "nats://b:4222")), "the same database"},
		"stream":          {settingsFile(t, "x.env", with("postgres://me@db/other", "A", "nats://a:4222")), "the same NATS_URL and the same STREAM_NAME: each database needs a stream of its own"},
		"name":            {settingsFile(t, "base.env", with("postgres://me@db/other", "B", "nats://a:4222")), "the same name"},
		"none":            {settingsFile(t, "x.env", with("postgres://me@db/billing", "B", "nats://a:4222")), ""},
		"other broker":    {settingsFile(t, "x.env", with("postgres://me@db/other", "A", "nats://b:4222")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Relays(nil, []string{base, test.file})
			if test.problem == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.file+": "+base+" has "+test.problem)
		})
	}
}
