package e2e_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const readToken = "everybody-may-read-with-this-token"

// operatedInstance is an instance, and a copy of a subscriber, whose operators have all kinds of tokens.
type operatedInstance struct {
	*infra.Process
	subscriber *infra.Process
	issuer     *infra.Issuer
	broker     string
}

func launchOperated(t *testing.T) operatedInstance {
	t.Helper()
	o := operatedInstance{issuer: infra.NewIssuer(t), broker: infra.NATS(t).URL}
	keys := httptest.NewServer(o.issuer)
	t.Cleanup(keys.Close)
	file := filepath.Join(t.TempDir(), "read-token")
	require.NoError(t, os.WriteFile(file, []byte(readToken+"\n"), 0o600))
	environment := []string{
		"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + o.broker, "ADMIN_READ_TOKEN_FILE=" + file, "ADMIN_ADDR=127.0.0.1:0",
		"AUTH_ISSUER=" + infra.IssuerName, "AUTH_AUDIENCE=" + infra.Audience, "AUTH_JWKS_URL=" + keys.URL,
	}
	o.Process = infra.Serve(t, "app", environment)
	o.subscriber = infra.Launch(t, environment, "subscribe", "--id", "reports")
	return o
}

// TestScopesOfOperators checks with real processes what each kind of token allows on the admin listeners of an instance and of a subscriber,
// that a subject is in the log, and that no token is.
func TestScopesOfOperators(t *testing.T) {
	o := launchOperated(t)
	reader, writer := o.issuer.Token("ada", "outboxie:read"), o.issuer.Token("bob", "outboxie:write")
	requests := []struct {
		method, path, body string
		need               string
	}{
		{http.MethodGet, "/outbox/status", "", "read"},
		{http.MethodGet, "/outbox/events", "", "read"},
		{http.MethodGet, "/subscribers", "", "read"},
		{http.MethodPost, "/subscribers/reports", `{"verb": "pause"}`, "write"},
		{http.MethodPost, "/subscribers/reports", `{"verb": "resume"}`, "write"},
	}
	eventually(t, func() bool {
		_, err := infra.Client{Address: o.Admin(), Token: writer}.Call(t.Context(), http.MethodPost, requests[3].path, requests[3].body, nil)
		return err == nil
	}, "the subscriber has not begun")
	for name, c := range map[string]struct {
		token, scope, code string
		status             int
	}{
		"the token":                {infra.AdminToken, "read write", "", 0},
		"the read token":           {readToken, "read", "insufficient_scope", http.StatusForbidden},
		"a reader":                 {reader, "read", "insufficient_scope", http.StatusForbidden},
		"a writer":                 {writer, "read write", "", 0},
		"a client of the API":      {o.issuer.Token("shop", "orders:any orders:place"), "", "insufficient_scope", http.StatusForbidden},
		"an expired one":           {o.issuer.Token("bob", "outboxie:write", jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()}), "", "invalid_token", http.StatusUnauthorized},
		"one for another audience": {o.issuer.Token("bob", "outboxie:write", jwt.MapClaims{"aud": "billing"}), "", "invalid_token", http.StatusUnauthorized},
		"none":                     {"", "", "unauthorized", http.StatusUnauthorized},
	} {
		for _, listener := range []string{o.Admin(), o.subscriber.Admin()} {
			for _, r := range requests {
				_, err := infra.Client{Address: listener, Token: c.token}.Call(t.Context(), r.method, r.path, r.body, nil)
				if strings.Contains(c.scope, r.need) {
					require.NoError(t, err, "%s: %s %s", name, r.method, r.path)
				} else {
					_ = requireProblem(t, err, c.status, c.code)
				}
			}
			for path, need := range map[string]string{"/metrics": "read", "/debug/pprof/heap": "write"} {
				status := c.status
				if strings.Contains(c.scope, need) {
					status = http.StatusOK
				}
				require.Equal(t, status, askAdmin(t, listener, path, "Bearer "+c.token), "%s: %s", name, path)
			}
		}
	}
	_, err := infra.Client{Address: o.API(), Token: writer}.Call(t.Context(), http.MethodGet, "/orders", "", nil)
	_ = requireProblem(t, err, http.StatusForbidden, "insufficient_scope")

	o.WaitFor(`audit action="POST /subscribers/reports" request="{\"verb\": \"pause\"}" actor_type=user actor=bob remote=127.0.0.1:`)
	o.WaitFor(`actor_type=api_key actor="holder of the admin token"`)
	o.WaitFor("refused a request whose admin token does not allow it")
	for _, p := range []*infra.Process{o.Process, o.subscriber} {
		require.Zero(t, p.Stop(syscall.SIGTERM))
		for _, secret := range []string{infra.AdminToken, readToken, reader, writer} {
			require.NotContains(t, p.String(), secret)
		}
	}
}

// operatorAt is a browser at the console of an instance, in which somebody has signed in.
type operatorAt struct {
	t    *testing.T
	base string
	http.Client
}

func signInAt(t *testing.T, address, token string) *operatorAt {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	at := &operatorAt{t: t, base: "http://" + address + "/console", Client: http.Client{Jar: jar}}
	status, page := at.send("/sign-in", url.Values{"token": {token}, "next": {"/console/orders"}})
	require.Equal(t, http.StatusOK, status, page)
	require.Contains(t, page, "<h1>Orders</h1>")
	return at
}

func (o *operatorAt) send(path string, form url.Values) (status int, page string) {
	o.t.Helper()
	answer, err := o.PostForm(o.base+path, form)
	require.NoError(o.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(o.t, err)
	return answer.StatusCode, string(text)
}

// TestConsoleOfOperators checks with real processes that a person who may only read places no order in the console, that a person who may write
// does, and that the event in the stream names that person.
func TestConsoleOfOperators(t *testing.T) {
	o := launchOperated(t)
	placement := url.Values{"key": {uuid.NewString()}, "customer_id": {infra.Customer}, "amount": {"7"}, "currency": {"USD"}}
	for _, token := range []string{readToken, o.issuer.Token("ada", "outboxie:read")} {
		status, page := signInAt(t, o.Admin(), token).send("/orders", placement)
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, page, "nothing was done, because you are signed in to read only")
	}
	o.WaitFor("refused a change in the console: the session may only read")
	status, page := signInAt(t, o.Admin(), o.issuer.Token("bob", "outboxie:write")).send("/orders", placement)
	require.Equal(t, http.StatusOK, status, page)
	require.Contains(t, page, "The order is placed.")
	o.WaitFor(`audit action="POST /console/sign-in" actor_type=user actor=bob scope=write`)
	o.WaitFor("actor_type=user actor=bob outcome=done")
	o.WaitFor("created the stream")
	message := firstMessage(t, o.broker)
	require.Equal(t, "user", message.Headers().Get("ce-authtype"))
	require.Equal(t, "bob", message.Headers().Get("ce-authid"))
}

// TestTheSameTokenForBothScopes checks that a process does not start if its read token allows everything, because somebody would believe that it
// does not.
func TestTheSameTokenForBothScopes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "read-token")
	require.NoError(t, os.WriteFile(file, []byte(infra.AdminToken), 0o600))
	p := infra.Launch(t, []string{
		"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "ADMIN_READ_TOKEN_FILE=" + file,
	}, "serve")
	require.Equal(t, 2, p.Wait())
	require.Contains(t, p.String(), "the token that may only read is the admin token")
	require.NotContains(t, p.String(), infra.AdminToken)
}
