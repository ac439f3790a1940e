package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// TestAuthSettings checks that the settings of tokens are complete or absent, and that an error names the setting that is wrong.
func TestAuthSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	issuer, audience, url := "AUTH_ISSUER=https://id.example.com", "AUTH_AUDIENCE=orders", "AUTH_JWKS_URL=https://id.example.com/keys"
	for name, c := range map[string]struct {
		environment []string
		on          bool
		wrong       string
	}{
		"nothing":               {},
		"off":                   {environment: []string{"AUTH=off"}},
		"keys at a URL":         {environment: []string{issuer, audience, url}, on: true},
		"keys in a file":        {environment: []string{issuer, audience, "AUTH_JWKS_FILE=" + file}, on: true},
		"on":                    {environment: []string{"AUTH=on"}, wrong: "AUTH is"},
		"off, with an issuer":   {environment: []string{"AUTH=off", issuer, audience, url}, wrong: "AUTH is"},
		"no audience":           {environment: []string{issuer, url}, wrong: "AUTH_AUDIENCE is"},
		"discovered keys":       {environment: []string{issuer, audience}, on: true},
		"discovered, with path": {environment: []string{issuer + "/realms/shop/", audience}, on: true},
		"discovered at home":    {environment: []string{"AUTH_ISSUER=http://127.0.0.1:9000", audience}, on: true},
		"discovered over http":  {environment: []string{"AUTH_ISSUER=http://id.example.com", audience}, wrong: "AUTH_ISSUER is"},
		"a name, without keys":  {environment: []string{"AUTH_ISSUER=development", audience}, wrong: "AUTH_ISSUER is"},
		"an issuer with a user": {environment: []string{"AUTH_ISSUER=https://me:pw@id.example.com", audience}, wrong: "AUTH_ISSUER is"},
		"an issuer's query":     {environment: []string{issuer + "?tenant=1", audience}, wrong: "AUTH_ISSUER is"},
		"a name, with keys":     {environment: []string{"AUTH_ISSUER=development", audience, url}, on: true},
		"no issuer":             {environment: []string{audience, url}, wrong: "AUTH_ISSUER is"},
		"only keys":             {environment: []string{url}, wrong: "AUTH_ISSUER is"},
		"two places of keys":    {environment: []string{issuer, audience, url, "AUTH_JWKS_FILE=" + file}, wrong: "AUTH_JWKS_URL is"},
		"a URL of another kind": {environment: []string{issuer, audience, "AUTH_JWKS_URL=ftp://id/keys"}, wrong: "AUTH_JWKS_URL is"},
		"a URL with a password": {environment: []string{issuer, audience, "AUTH_JWKS_URL=https://me:pw@id/keys"}, wrong: "AUTH_JWKS_URL is"},
		"a missing file":        {environment: []string{issuer, audience, "AUTH_JWKS_FILE=" + file + ".x"}, wrong: "AUTH_JWKS_FILE is"},
		"a folder":              {environment: []string{issuer, audience, "AUTH_JWKS_FILE=" + filepath.Dir(file)}, wrong: "AUTH_JWKS_FILE is"},
		"a claim with a space":  {environment: []string{"AUTH_CUSTOMER_CLAIM=customer id"}, wrong: "AUTH_CUSTOMER_CLAIM is"},
		"a negative rate":       {environment: []string{"HTTP_RATE_LIMIT=-1"}, wrong: "HTTP_RATE_LIMIT is"},
	} {
		built, err := build(c.environment...)
		if c.wrong != "" {
			require.ErrorContains(t, err, c.wrong, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, c.on, built.Auth.On(), name)
	}
}

// TestAccessBeyondLoopback checks that an API which other machines reach needs an issuer, or AUTH=off.
func TestAccessBeyondLoopback(t *testing.T) {
	for environment, refused := range map[string]bool{
		"HTTP_ADDR=127.0.0.1:8080": false,
		"HTTP_ADDR=[::1]:8080":     false,
		"HTTP_ADDR=localhost:0":    false,
		"HTTP_ADDR=:8080":          true,
		"HTTP_ADDR=0.0.0.0:8080":   true,
		"HTTP_ADDR=[::]:8080":      true,
		"HTTP_ADDR=10.0.0.7:8080":  true,
		"HTTP_ADDR=shop:8080":      true,
	} {
		open, err := build(environment)
		require.NoError(t, err, environment)
		var wrong *config.Error
		if err := open.CheckAccess(); refused {
			require.ErrorAs(t, err, &wrong, environment)
			require.ErrorContains(t, err, "AUTH=off", environment)
		} else {
			require.NoError(t, err, environment)
		}
		for _, more := range [][]string{{"AUTH=off"}, {"AUTH_ISSUER=i", "AUTH_AUDIENCE=a", "AUTH_JWKS_URL=http://k/"}} {
			said, err := build(append(more, environment)...)
			require.NoError(t, err, environment)
			require.NoError(t, said.CheckAccess(), environment)
		}
	}
}
