package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Relay is the configuration of one relay of a process that has several.
type Relay struct {
	Name    string // of its file, without the ending; the name of the stream if there is no file
	Config  Config
	File    string
	Exposed bool // other users may read the file, and it has a password
}

// ofRelay are the settings that a file of a relay may have. All others belong to the process.
var ofRelay = []Name{
	DatabaseURL, DatabaseMaxConns, NATSURL, NATSCreds, NATSCA, NATSCert, NATSKey, NATSInboxPrefix, StreamName, StreamSubjects, EventSource,
	StreamMaxBytes, StreamMaxAge, StreamReplicas, OutboxLeaseTTL, OutboxPoll, OutboxBatchSize, OutboxRetention,
}

// Relays returns the configuration of a relay for each file. A setting that a file leaves out comes from the environment. Without files, one
// relay has the settings of the environment. The defaults of the order service do not count: the stream, its subjects and the source must be
// given. The error is an *Error with all problems of all files.
func Relays(environment, files []string) ([]Relay, error) {
	if len(files) == 0 {
		c, err := relayConfig(environment)
		return []Relay{{Name: c.Stream.Name, Config: c}}, err
	}
	var relays []Relay
	var problems []Problem
	for _, path := range files {
		relay, err := readRelay(environment, path)
		if err == nil {
			relays = append(relays, relay)
			continue
		}
		var found *Error
		if !errors.As(err, &found) {
			return nil, err
		}
		problems = append(problems, found.Problems...)
	}
	if problems = append(problems, clashes(relays)...); len(problems) > 0 {
		return nil, &Error{Problems: problems}
	}
	return relays, nil
}

func relayConfig(variables []string) (Config, error) {
	return NewBuilder().Environment(variables).Require(DatabaseURL, StreamName, StreamSubjects, EventSource).
		Default(func(c *Config) { c.Stream.Name, c.Stream.Subjects, c.Stream.Source = "", "", "" }).Build()
}

func readRelay(environment []string, path string) (Relay, error) {
	file, err := ReadFile(path)
	if err != nil {
		return Relay{}, err
	}
	var problems []Problem
	for name, line := range file.lines {
		if !slices.Contains(ofRelay, name) {
			problems = append(problems, Problem{name, fmt.Sprintf("%s:%d: %s belongs to the process, not to one relay: set it in the environment", path, line, name)})
		}
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if !plainName.MatchString(name) {
		problems = append(problems, Problem{Text: path + ": the file's name without its ending is the name of the relay; it must be 1 to 64 letters, digits, - and _"})
	}
	c, err := relayConfig(slices.Concat(environment, file.Variables))
	var found *Error
	switch located := file.Locate(err); {
	case errors.As(located, &found):
		problems = append(problems, found.Problems...)
	case err != nil:
		return Relay{}, err
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Text, b.Text) })
		return Relay{}, &Error{Problems: problems}
	}
	exposed := file.Exposed && (file.lines[DatabaseURL] != 0 && c.Database.URL.hasSecret() || file.lines[NATSURL] != 0 && c.NATS.URL.hasSecret())
	return Relay{Name: name, Config: c, File: path, Exposed: exposed}, nil
}

// clashes returns the problems of files that cannot be relayed by one process: same names, and relays that would write into one stream.
func clashes(relays []Relay) []Problem {
	var problems []Problem
	names, databases, streams := make(map[string]string), make(map[string]string), make(map[string]string)
	for _, r := range relays {
		c := r.Config
		for _, unique := range []struct {
			taken     map[string]string
			key, what string
		}{
			{names, r.Name, "the same name; a relay has the name of its file"},
			{databases, c.Database.URL.database() + " " + c.Stream.Name, "the same database and the same STREAM_NAME"},
			{streams, strings.Join([]string{string(c.NATS.URL), c.NATS.Creds, c.NATS.Cert, c.Stream.Name}, " "), "the same NATS_URL and the same STREAM_NAME: " +
				"each database needs a stream of its own"},
		} {
			if other, taken := unique.taken[unique.key]; taken {
				problems = append(problems, Problem{Text: fmt.Sprintf("%s: %s has %s", r.File, other, unique.what)})
				break
			}
			unique.taken[unique.key] = r.File
		}
	}
	return problems
}

// hasSecret reports whether a part of u is hidden when u is shown.
func (u URL) hasSecret() bool {
	for _, part := range u.servers() {
		if parsed, ok := parseURL(part); !ok || redacted(parsed) != parsed.String() {
			return true
		}
	}
	return false
}

// database returns the hosts and the database that a Postgres URL names, without the user and other parameters.
func (u URL) database() string {
	parsed, ok := parseURL(string(u))
	if !ok {
		return string(u)
	}
	query := parsed.Query()
	hosts := cmp.Or(parsed.Host, query.Get("host"))
	if port := query.Get("port"); port != "" && parsed.Host == "" {
		hosts += ":" + port
	}
	var named []string
	for host := range strings.SplitSeq(strings.ToLower(hosts), ",") {
		if at := (&url.URL{Host: host}); at.Port() == "" && !strings.HasPrefix(host, "/") {
			host += ":5432"
		}
		named = append(named, host)
	}
	return strings.Join(named, ",") + "/" + cmp.Or(strings.TrimPrefix(parsed.Path, "/"), query.Get("dbname"), query.Get("database"), parsed.User.Username())
}
