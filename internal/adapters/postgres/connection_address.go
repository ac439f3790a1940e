package postgres

import (
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// The environment variables of libpq that name a server, a role or a way to connect have no effect. DATABASE_URL alone decides. The
// variables for secrets and for key files do have an effect if the URL leaves them out: PGPASSWORD, PGPASSFILE, PGSSLROOTCERT, PGSSLCERT,
// PGSSLKEY and PGSSLPASSWORD.
var (
	ignoredVariables = []string{
		"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGAPPNAME", "PGCONNECT_TIMEOUT", "PGSSLSNI", "PGSSLNEGOTIATION",
		"PGTARGETSESSIONATTRS", "PGSERVICE", "PGSERVICEFILE", "PGTZ", "PGOPTIONS", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION",
	}

	// protectingVariables may ask for a safer connection than the URL does. The program neither obeys nor ignores them: if one is set, the
	// URL must have the parameter whose name stands beside the variable.
	protectingVariables = map[string]string{
		"PGSSLMODE": "sslmode", "PGSSLCERTMODE": "sslcertmode", "PGCHANNELBINDING": "channel_binding", "PGREQUIREAUTH": "require_auth",
	}
)

// IgnoredVariables returns the environment variables that are set, that other clients of Postgres obey, and that this program ignores.
func IgnoredVariables() []string {
	return slices.DeleteFunc(slices.Clone(ignoredVariables), func(name string) bool { return os.Getenv(name) == "" })
}

// readOnlyServer matches a parameter that asks for a server without writes, in a URL or in keywords and values.
var readOnlyServer = regexp.MustCompile(`target_session_attrs\s*=\s*'?(standby|prefer-standby|read-only)`)

// decoded returns a URL without its percent encodings. Keywords and values have none.
func decoded(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

// environment is locked while parseAddress hides variables.
var environment sync.Mutex

// parseAddress reads a URL. It hides from the driver the environment variables that must have no effect.
func parseAddress(text string) (*pgx.ConnConfig, error) {
	environment.Lock()
	defer environment.Unlock()
	hidden := slices.Clone(ignoredVariables)
	for variable, name := range protectingVariables {
		hidden = append(hidden, variable)
		if value := os.Getenv(variable); value != "" && !strings.Contains(text, name) {
			return nil, ErrURL.With("%[1]s is set to %[2]s, but only DATABASE_URL decides how to connect, and it does not set %[3]s: write "+
				"%[3]s=%[2]s into DATABASE_URL, or unset %[1]s", variable, value, name)
		}
	}
	for _, variable := range hidden {
		value, set := os.LookupEnv(variable)
		if !set {
			continue
		}
		if err := os.Unsetenv(variable); err != nil {
			return nil, err
		}
		defer func() { _ = os.Setenv(variable, value) }() // cannot fail: the variable had this value before
	}
	if found := readOnlyServer.FindStringSubmatch(decoded(text)); found != nil {
		return nil, ErrURL.With("DATABASE_URL asks for target_session_attrs=%s, and the program needs the primary: leave it out", found[1])
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, ErrURL.With("DATABASE_URL cannot be read").Wrap(withoutURL(err))
	}
	return config, nil
}

// plainName matches the names of roles that need no quotes in a statement.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// OperatorGrant returns the statement that gives the role of a database URL the rights of an operator. docker/roles.sql makes the role of
// operators. OperatorGrant returns "" if it cannot read the URL.
func OperatorGrant(url string) string {
	config, err := parseAddress(url)
	if err != nil {
		return ""
	}
	role := config.User
	if !plainName.MatchString(role) {
		role = pgx.Identifier{role}.Sanitize()
	}
	return "GRANT outboxie_operator TO " + role
}
