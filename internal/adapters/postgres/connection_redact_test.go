package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

// TestURLsAreNotRepeated checks that an error about a URL does not contain the URL, which may hold a password.
func TestURLsAreNotRepeated(t *testing.T) {
	for url, said := range map[string]string{
		"postgres://me:s3cret@h/o?sslmode=verify-full&sslrootcert=/no": "unable to read CA file",
		"postgres://h/o?apikey=s3cret&connect_timeout=x":               "invalid connect_timeout",
		"postgres://h/o?options=-c%20a.b=s3cret":                       "extra key/value separator",
		"postgres://h/o?apikey=`: s3cret&connect_timeout=x":            "use percent-encoded spaces",
		"host=h apikey=s3cret connect_timeout=x":                       "invalid connect_timeout",
	} {
		_, err := postgres.Open(postgres.Options{URL: url})
		require.ErrorIs(t, err, postgres.ErrURL)
		require.ErrorContains(t, err, said)
		require.NotContains(t, err.Error(), "s3cret")
	}
}
