package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const someCredentials = "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n" +
	"-----BEGIN USER NKEY SEED-----\nx\n------END USER NKEY SEED------\n"

// TestFiles checks that files are read when the configuration is built, not when the broker is connected.
func TestFiles(t *testing.T) {
	authority := infra.NewAuthority(t)
	certificate, key := authority.Client("me")
	_, other := authority.Client("other")
	for name, c := range map[string]struct {
		environment []string
		problems    []string // the beginning of each expected problem
	}{
		"no such file": {
			[]string{"NATS_CREDS=/no/such", "NATS_TLS_CA=/no/such"},
			[]string{`NATS_CREDS is "/no/such"; it must be a file with`, `NATS_TLS_CA is "/no/such"; it must be a file with`},
		},
		"another kind of file": {
			[]string{"NATS_CREDS=" + key, "NATS_TLS_CA=" + key},
			[]string{"NATS_CREDS is ", "NATS_TLS_CA is "},
		},
		"a certificate without a key": {
			[]string{"NATS_TLS_CERT=" + certificate}, []string{`NATS_TLS_KEY is ""; it must be a file with the PEM private key`},
		},
		"a key without a certificate": {
			[]string{"NATS_TLS_KEY=" + key}, []string{`NATS_TLS_CERT is ""; it must be a file with a PEM certificate`},
		},
		"the key of another certificate": {
			[]string{"NATS_TLS_CERT=" + certificate, "NATS_TLS_KEY=" + other}, []string{"NATS_TLS_KEY is "},
		},
		"the two mixed up": {
			[]string{"NATS_TLS_CERT=" + key, "NATS_TLS_KEY=" + certificate}, []string{"NATS_TLS_CERT is "},
		},
	} {
		_, err := build(c.environment...)
		var wrong *config.Error
		require.ErrorAs(t, err, &wrong, name)
		require.Len(t, wrong.Problems, len(c.problems), "%s: %v", name, err)
		for i, problem := range wrong.Problems {
			require.True(t, strings.HasPrefix(problem.Text, c.problems[i]), "%s: %s", name, problem.Text)
		}
	}
}
