package config

import (
	"net/url"
	"slices"
	"strings"
)

const hidden = "(hidden)"

// URL is the address of a server, with credentials. Printing, logging and marshaling hide the password or the token. string(u) is the real
// text for a connection.
type URL string

// String returns the URL without its secrets. It hides the whole text if it cannot be parsed.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	parts := u.servers()
	for i, part := range parts {
		parsed, ok := parseURL(part)
		if !ok {
			return hidden
		}
		parts[i] = redacted(parsed)
	}
	return strings.Join(parts, ",")
}

// GoString keeps the secrets out of %#v.
func (u URL) GoString() string { return u.String() }

// MarshalText keeps the secrets out of JSON and structured logs.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// servers splits a list of NATS URLs. A Postgres URL with several hosts is one URL.
func (u URL) servers() []string {
	if strings.HasPrefix(string(u), "postgres") {
		return []string{string(u)}
	}
	return strings.Split(string(u), ",")
}

// parseURL refuses a URL that can be read in two ways. In postgres://me:123#4@host/db the password has an unescaped #, and net/url reads
// "me" as the host and 123 as its port.
func parseURL(text string) (*url.URL, bool) {
	parsed, err := url.Parse(strings.TrimSpace(text))
	if err != nil || parsed.Opaque != "" || parsed.Fragment != "" || strings.Contains(text, "#") {
		return nil, false
	}
	if strings.Contains(parsed.Path, "@") || strings.Contains(parsed.RawQuery, "@") {
		return nil, false
	}
	if _, err := url.ParseQuery(parsed.RawQuery); err != nil {
		return nil, false
	}
	return parsed, true
}

func redacted(u *url.URL) string {
	shown := *u
	if _, hasPassword := u.User.Password(); u.User != nil && !hasPassword && !isPostgres(u) {
		shown.User = url.User(maskedValue) // for NATS, a user name without a password is a token
	}
	if query, changed := redactedQuery(u.Query()); changed {
		shown.RawQuery = query.Encode()
	}
	return shown.Redacted()
}

func isPostgres(u *url.URL) bool { return u.Scheme == "postgres" || u.Scheme == "postgresql" }

// isDatabase reports whether u is one Postgres URL. It may have several hosts, or none and a socket folder in its query.
func (u URL) isDatabase() bool {
	parsed, ok := parseURL(string(u))
	return ok && isPostgres(parsed) && (parsed.Host != "" || parsed.Path != "" || parsed.RawQuery != "")
}

func (u URL) isNATS() bool {
	for _, part := range u.servers() {
		parsed, ok := parseURL(part)
		if !ok || parsed.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, parsed.Scheme) {
			return false
		}
	}
	return true
}

func (u URL) isHTTP() bool {
	parsed, ok := parseURL(string(u))
	return ok && parsed.Hostname() != "" && (parsed.Scheme == "http" || parsed.Scheme == "https")
}

// Secret is a text that printing, logging and marshaling hide. string(s) is the real text.
type Secret string

// String shows only whether there is a secret.
func (s Secret) String() string {
	if s == "" || s == Off {
		return string(s)
	}
	return hidden
}

// GoString keeps the secret out of %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps the secret out of JSON and structured logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
