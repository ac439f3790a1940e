package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// Every session sends these settings in its startup message. They take precedence over the settings of the server, the database and the
// role, even if somebody changes a default later.
//
// A pooler accepts only the settings that it keeps for each client separately. Behind a pooler the other settings are left out, and the
// statements do not depend on them: see openedStatement.
var (
	// textSettings are the settings for text that every pooler keeps for each client separately.
	textSettings = map[string]string{
		"client_encoding": "UTF8", "datestyle": "ISO, MDY", "timezone": "UTC", "standard_conforming_strings": "on",
	}

	// fixedSettings are further settings on which the statements and the reading of their answers depend. DATABASE_URL cannot change them.
	fixedSettings = map[string]string{
		"array_nulls": "on", "backslash_quote": "safe_encoding", "bytea_output": "hex", "extra_float_digits": "1",
		"intervalstyle": "postgres", "quote_all_identifiers": "off", "transform_null_equals": "off", "row_security": "on",
		"default_transaction_isolation": "read committed", "default_transaction_deferrable": "off", "check_function_bodies": "on",
	}

	// defaultSettings are settings that DATABASE_URL may change. The program bounds its statements and transactions itself, so the timeouts of the
	// database are off. jit is off because of the relay's statements. Over a large outbox the planner expects some of them to read many
	// rows, although they read few. To compile such a statement takes up to a second.
	defaultSettings = map[string]string{
		"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
		"plan_cache_mode": "auto", "jit": "off",
	}

	// recentSettings are like defaultSettings, but some versions of the server do not know them. So they are set after the session has begun.
	recentSettings = map[string]string{"idle_session_timeout": "0", "transaction_timeout": "0"}
)

// abandonedCheck is how often Postgres looks whether the client of a running statement is still there. A request to cancel a statement is lost
// if it comes before the statement. Without this check, such a statement would wait for its lock, and keep its own locks, although its process
// has closed the connection or has been killed. Servers that do not run on Linux may not have the check.
const (
	abandonedCheck = "2s"
	checkInterval  = "client_connection_check_interval"
)

// unusable are settings with which the program could never work, if DATABASE_URL turns them on. Each has the reason for the error text.
var unusable = map[string]string{
	"default_transaction_read_only": "so nothing could be written",
	"replication":                   "which makes sessions for copying the whole server",
}

// isOff accepts each way to write the value off: off, false, no and 0.
func isOff(value string) bool {
	return slices.Contains([]string{"off", "false", "no", "0"}, strings.ToLower(value))
}

// applySettings completes the settings of DATABASE_URL. direct are the settings of a session that leads to Postgres itself. pooled are the
// settings of a session that leads to a pooler.
func applySettings(config *pgx.ConnConfig) (direct, pooled map[string]string, err error) {
	given, err := givenSettings(config.RuntimeParams)
	if err != nil {
		return nil, nil, err
	}
	for _, pins := range []map[string]string{textSettings, fixedSettings} {
		for name, value := range pins {
			if own, set := given[name]; set && !sameSetting(own, value) {
				return nil, nil, ErrURL.With("DATABASE_URL sets %s to %s, and the program depends on %s: leave it out", name, own, value)
			}
		}
	}
	for name, harm := range unusable {
		if own, set := given[name]; set && !isOff(own) {
			return nil, nil, ErrURL.With("DATABASE_URL sets %s to %s, %s: leave it out", name, own, harm)
		}
	}
	pooled = maps.Clone(given)
	maps.Copy(pooled, textSettings)
	direct = maps.Clone(defaultSettings)
	maps.Copy(direct, pooled)
	maps.Copy(direct, fixedSettings)
	return direct, pooled, nil
}

// sameSetting reports whether two values are the same. It ignores case, hyphens, spaces and quotes: utf-8 is UTF8, and ON is on.
func sameSetting(one, other string) bool {
	plain := strings.NewReplacer("-", "", " ", "", "'", "")
	return strings.EqualFold(plain.Replace(one), plain.Replace(other))
}

// givenSettings returns the settings of a URL by their names in lower case. They include the settings in its "options" (-c name=value).
func givenSettings(parameters map[string]string) (map[string]string, error) {
	given := make(map[string]string, len(parameters))
	words := ""
	for name, value := range parameters {
		if name == "options" {
			words = value
			continue
		}
		given[strings.ToLower(name)] = value
	}
	listed, err := readOptions(words)
	if err != nil {
		return nil, err
	}
	for name, value := range listed {
		if _, set := given[name]; !set { // as in Postgres, the parameter wins
			given[name] = value
		}
	}
	return given, nil
}

// readOptions reads -c name=value, -cname=value and --name=value.
func readOptions(text string) (map[string]string, error) {
	settings := make(map[string]string)
	words := splitOptions(text)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		setting, long := strings.CutPrefix(word, "--")
		if !long {
			var short bool
			if setting, short = strings.CutPrefix(word, "-c"); !short {
				return nil, ErrURL.With("DATABASE_URL has %q in its options: only -c name=value is supported", word)
			}
			if setting == "" && len(words) > 0 {
				setting, words = words[0], words[1:]
			}
		}
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			return nil, ErrURL.With("DATABASE_URL has %q in its options: only -c name=value is supported", word)
		}
		settings[strings.ToLower(strings.ReplaceAll(name, "-", "_"))] = value
	}
	return settings, nil
}

// splitOptions splits at white space. A backslash keeps the character after it.
func splitOptions(text string) (words []string) {
	var word strings.Builder
	begun, escaped := false, false
	for _, r := range text {
		switch {
		case !escaped && r == '\\':
			begun, escaped = true, true
		case !escaped && strings.ContainsRune(" \t\n\r\v\f", r):
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun, escaped = true, false
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}

// refusesSettings reports whether err comes from a pooler that does not accept a setting of the startup message.
func refusesSettings(err error) bool {
	var reported *pgconn.PgError
	return errors.As(err, &reported) && (reported.Code == "08P01" || reported.Code == "0A000") &&
		strings.Contains(reported.Message, "parameter")
}

// ErrEncoding reports that the database keeps its text in another encoding than UTF8.
var ErrEncoding = fault.New(fault.Invalid, "unsupported_encoding", "the database is not encoded in UTF8")

// ErrVersion reports that the server is older than the program supports.
var ErrVersion = fault.New(fault.Invalid, "unsupported_version", "this version of Postgres is too old")

// oldest is the oldest version that has all functions of the statements: pg_column_compression came with Postgres 14.
const oldest = 14

// ErrSearchPath reports that the session's search_path names no schema that could hold the tables.
var ErrSearchPath = fault.New(fault.Invalid, "no_schema", "the search_path leads to no schema")

// errFormat reports that a pooler did not keep a setting that the session asked for.
var errFormat = fault.New(fault.Invalid, "unsupported_pooler", "a setting that the program depends on is not as it was set")

// checkFormat checks the parameters that the server reported while the session began. Postgres reports all of these.
func checkFormat(conn *pgconn.PgConn, database string) error {
	if err := checkVersion(conn.ParameterStatus("server_version")); err != nil {
		return err
	}
	if encoding := conn.ParameterStatus("server_encoding"); encoding != "" && encoding != "UTF8" {
		return ErrEncoding.With("the encoding of the database %[1]s is %[2]s, which cannot store every payload, or does not validate text: make a "+
			"database with createdb --encoding=UTF8 --template=template0, restore a dump of %[1]s into it, and name it in DATABASE_URL",
			database, encoding)
	}
	for name, want := range map[string]string{"DateStyle": "ISO", "client_encoding": "UTF8", "standard_conforming_strings": "on"} {
		if is := conn.ParameterStatus(name); is != "" && !strings.HasPrefix(is, want) {
			return errFormat.With("the session's %[1]s is %[2]s although %[3]s was asked for: the pooler in between must keep %[1]s apart for "+
				"each client", name, is, want)
		}
	}
	return nil
}

// checkVersion takes the version as Postgres writes it: "15.18 (Debian 15.18-0+deb12u1)", "18beta1".
func checkVersion(version string) error {
	var major int
	if _, err := fmt.Sscanf(version, "%d", &major); err == nil && major < oldest {
		return ErrVersion.With("the server is Postgres %s, and the program needs Postgres %d or later: upgrade it with pg_upgrade, or restore "+
			"a dump of the database on a newer one", version, oldest)
	}
	return nil
}

// openedStatement returns the first statement of a new session. Its answer says where the session leads.
//
// On Postgres itself the statement also makes the settings that the startup message cannot make: settings that some versions do not have,
// commits that survive a crash, and a search path with pg_temp at the end, so that a temporary table named "outbox" does not hide the real
// one.
//
// Behind a pooler the backend serves other clients too. There the statement only turns jit off, which makes the other clients' statements
// faster too.
func openedStatement(direct bool, given map[string]string) string {
	columns := []string{
		"pg_catalog.pg_is_in_recovery()", "pg_catalog.current_setting('transaction_read_only') = 'on'",
		"coalesce(pg_catalog.current_schema() LIKE 'pg_temp%', true)", "pg_catalog.pg_backend_pid()",
	}
	if !direct {
		return "SELECT " + strings.Join(append(columns, "pg_catalog.set_config('jit', 'off', false)"), ", ")
	}
	columns = append(columns,
		`CASE WHEN pg_catalog.current_setting('synchronous_commit') = 'off' THEN pg_catalog.set_config('synchronous_commit', 'on', false) END`,
		`CASE WHEN pg_catalog.current_setting('search_path') !~ 'pg_temp'
			THEN pg_catalog.set_config('search_path', pg_catalog.current_setting('search_path') || ', pg_temp', false) END`)
	if _, set := given[checkInterval]; !set {
		columns = append(columns, fmt.Sprintf(`CASE WHEN pg_catalog.version() LIKE '%%linux%%'
			THEN pg_catalog.set_config('%s', '%s', false) END`, checkInterval, abandonedCheck))
	}
	for name, value := range recentSettings {
		if _, set := given[name]; !set {
			columns = append(columns, fmt.Sprintf(`CASE WHEN pg_catalog.current_setting('%[1]s', true) IS NOT NULL
			THEN pg_catalog.set_config('%[1]s', '%[2]s', false) END`, name, value))
		}
	}
	return "SELECT " + strings.Join(columns, ", ")
}
