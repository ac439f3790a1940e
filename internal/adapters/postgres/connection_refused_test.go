package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

func cut(setting string) (name, value string, ok bool) { return strings.Cut(setting, "=") }

func withoutPassword(t *testing.T, address string) (password, without string) {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	password, _ = parsed.User.Password()
	require.NotEmpty(t, password)
	parsed.User = url.User(parsed.User.Username())
	return password, parsed.String()
}

// TestRefusals checks that Refused names a cure for each way in which a server refuses a connection. Without Refused, the same
// error only means that the database is unavailable. A server that cannot be reached is not a refusal.
func TestRefusals(t *testing.T) {
	h := newHarness(t)
	t.Cleanup(func() {
		_, err := h.admin.ExecContext(context.WithoutCancel(t.Context()), "DROP ROLE stranger, asleep")
		require.NoError(t, err)
	})
	exec(t, h.admin, "CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
	exec(t, h.admin, "CREATE ROLE asleep NOLOGIN PASSWORD 'asleep'")
	exec(t, h.admin, "REVOKE CONNECT ON DATABASE ? FROM PUBLIC", bun.Ident(h.name))
	address := func(change func(u *url.URL, q url.Values)) string {
		parsed, err := url.Parse(h.address)
		require.NoError(t, err)
		query := parsed.Query()
		change(parsed, query)
		parsed.RawQuery = query.Encode()
		return parsed.String()
	}
	for name, c := range map[string]struct {
		change func(u *url.URL, q url.Values)
		cure   string
	}{
		"wrong password":    {func(u *url.URL, _ url.Values) { u.User = url.UserPassword("outboxie", "wrong") }, "the password is wrong"},
		"no password":       {func(u *url.URL, _ url.Values) { u.User = url.User("outboxie") }, "the password is wrong"},
		"unknown role":      {func(u *url.URL, _ url.Values) { u.User = url.UserPassword("nobody", "x") }, "there is no role nobody"},
		"no LOGIN":          {func(u *url.URL, _ url.Values) { u.User = url.UserPassword("asleep", "asleep") }, "make the role with LOGIN"},
		"no CONNECT":        {func(u *url.URL, _ url.Values) { u.User = url.UserPassword("stranger", "stranger") }, "GRANT CONNECT ON DATABASE"},
		"unknown database":  {func(u *url.URL, _ url.Values) { u.Path = "/nothing" }, "createdb --encoding=UTF8 --template=template0 nothing"},
		"TLS":               {func(_ *url.URL, q url.Values) { q.Set("sslmode", "require") }, "sslmode=disable"},
		"unknown setting":   {func(_ *url.URL, q url.Values) { q.Set("statement_timeuot", "1") }, "does not know a setting"},
		"nonsensical value": {func(_ *url.URL, q url.Values) { q.Set("statement_timeout", "soon") }, "or not its value"},
		"one host of two": {func(u *url.URL, _ url.Values) {
			u.Host, u.Path = "127.0.0.1:1,"+u.Host, "/nothing"
		}, "there is no database nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			err := postgres.MigrateUp(t.Context(), open(t, postgres.Options{URL: address(c.change)}), quiet)
			require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
			err = postgres.Refused(err)
			require.ErrorIs(t, err, postgres.ErrRefused)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.ErrorContains(t, err, c.cure)
		})
	}
	for _, patient := range []string{"postgres://127.0.0.1:1/nowhere", "postgres://nowhere.invalid/nowhere"} {
		err := open(t, postgres.Options{URL: patient}).PingContext(t.Context())
		require.Error(t, err)
		require.NotErrorIs(t, postgres.Refused(err), postgres.ErrRefused, patient)
	}
	h.Disconnect(t)
	err := h.db.PingContext(t.Context())
	require.NotErrorIs(t, postgres.Refused(err), postgres.ErrRefused, "it is closed for a while: %v", err)
	h.Reconnect(t)
	require.NoError(t, postgres.Refused(nil))
}
