package httpapi_test

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/test/contract"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// operatorsOf returns what accepts the access tokens that an issuer makes for operators.
func operatorsOf(t *testing.T, issuer *infra.Issuer) operations.Authenticator {
	t.Helper()
	verifier, err := oidc.New(oidc.Options{
		Issuer: infra.IssuerName, Audience: infra.Audience, KeysFile: issuer.KeysFile(), CustomerClaim: "sub", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return verifier.Operators()
}

// operated is a running admin listener with both tokens and an issuer, and what its requests have changed.
type operated struct {
	t           *testing.T
	base        string
	issuer      *infra.Issuer
	said        *logged
	relay       *fakeOperations
	parked      *fakeUndecided
	subscribers *registry
}

func newOperated(t *testing.T) *operated {
	t.Helper()
	o := &operated{
		t: t, issuer: infra.NewIssuer(t), said: new(logged), relay: &fakeOperations{}, parked: &fakeUndecided{}, subscribers: &registry{},
	}
	o.base = run(t, httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Token: token, ReadToken: readToken, Issuer: operatorsOf(t, o.issuer), Inspector: o.relay, ParkingAdmin: o.relay,
		Parked: o.parked, DeadLetters: o.parked, Subscribers: o.subscribers, Logger: slog.New(slog.NewTextHandler(o.said, nil)),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up 1\n")) }),
	}).Server)
	return o
}

// changes returns how many changes were made.
func (o *operated) changes() int {
	return len(o.relay.redrive) + len(o.parked.asked) + len(o.subscribers.asked)
}

// bodies are valid bodies of the operations that have one.
var bodies = map[string]string{
	"RedriveEvents": `{"all": true}`, "RedriveChosenEvents": `{"all": true}`, "DiscardChosenEvents": `{"all": true}`,
	"RetryDeadLetters": `{"all": true}`, "DiscardDeadLetters": `{"all": true}`, "ChangeSubscriber": `{"verb": "pause"}`,
}

// send sends a valid request for an operation with a token.
func (o *operated) send(operation contract.Operation, token string) orderResponse {
	o.t.Helper()
	path := strings.NewReplacer("{subscriber}", "e%20mails", "{profile}", "heap").Replace(operation.Path)
	headers := []string{"Content-Type: application/json"}
	if token != "" {
		headers = append(headers, "Authorization: Bearer "+token)
	}
	b := &adminService{t: o.t, base: o.base}
	return b.ask(operation.Method, path, bodies[operation.ID], headers...)
}

// operatorScopes returns the operations of openapi.yaml that need a token of operators, with the scope that each needs.
func operatorScopes(t *testing.T) map[string]operations.Scope {
	t.Helper()
	doc, err := contract.OpenAPI()
	require.NoError(t, err)
	scopes := make(map[string]operations.Scope)
	for path, item := range doc.Paths.Map() {
		for method, described := range item.Operations() {
			scope, named := described.Extensions["x-operator-scope"].(string)
			needs := len(item.Servers) > 0 && path != "/healthz" && path != "/readyz"
			require.Equal(t, needs, named, "%s %s: each operation that needs a token of operators names its scope", method, path)
			if named {
				require.NotNil(t, described.Security, "%s %s", method, path)
				scopes[described.OperationID] = operations.Scope(scope)
			}
		}
	}
	require.GreaterOrEqual(t, len(scopes), 14)
	return scopes
}

// TestEachOperationOfOperatorsNeedsItsScope checks each operation of openapi.yaml on the admin listener with every kind of token. What is
// refused changes nothing, and the answer says why.
func TestEachOperationOfOperatorsNeedsItsScope(t *testing.T) {
	o, scopes := newOperated(t), operatorScopes(t)
	all, err := contract.Operations()
	require.NoError(t, err)
	const invalid, insufficient = `, error="invalid_token"`, `, error="insufficient_scope", scope=`
	past := jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()}
	both := []operations.Scope{operations.ScopeRead, operations.ScopeWrite}
	for name, c := range map[string]struct {
		token   string
		allowed []operations.Scope
		code    string
		header  string // of WWW-Authenticate, without the realm and without the scope
	}{
		"the token":                   {token, both, "", ""},
		"the read token":              {readToken, both[:1], "insufficient_scope", insufficient},
		"an operator who may write":   {o.issuer.Token("ada", "outboxie:write"), both, "", ""},
		"an operator who may read":    {o.issuer.Token("ada", "outboxie:read"), both[:1], "insufficient_scope", insufficient},
		"a client of the API":         {o.issuer.Token("shop", "orders:any orders:place orders:read"), nil, "insufficient_scope", insufficient},
		"nobody":                      {"", nil, "unauthorized", ""},
		"both tokens":                 {token + readToken, nil, "invalid_token", invalid},
		"an expired access token":     {o.issuer.Token("ada", "outboxie:write", past), nil, "invalid_token", invalid},
		"one for another audience":    {o.issuer.Token("ada", "outboxie:write", jwt.MapClaims{"aud": "billing"}), nil, "invalid_token", invalid},
		"one of another issuer":       {o.issuer.Token("ada", "outboxie:write", jwt.MapClaims{"iss": "https://evil.example"}), nil, "invalid_token", invalid},
		"one with the wrong key":      {infra.NewIssuer(t).Token("ada", "outboxie:write"), nil, "invalid_token", invalid},
		"one that nobody has signed":  {o.issuer.Sign("none", "ES256", infra.Claims("ada", "outboxie:write")), nil, "invalid_token", invalid},
		"one that anybody could sign": {o.issuer.Sign("HS256", "ES256", infra.Claims("ada", "outboxie:write")), nil, "invalid_token", invalid},
	} {
		for _, operation := range all {
			needed, ofOperators := scopes[operation.ID]
			if !ofOperators {
				continue
			}
			before := o.changes()
			got := o.send(operation, c.token)
			if slices.Contains(c.allowed, needed) {
				require.Equal(t, http.StatusOK, got.status, "%s, %s: %s", operation.ID, name, got.body)
				require.Equal(t, operation.Method != http.MethodGet, o.changes() > before, "%s, %s", operation.ID, name)
				continue
			}
			require.Equal(t, before, o.changes(), "%s, %s", operation.ID, name)
			require.Contains(t, got.body, `"code":"`+c.code+`"`, "%s, %s", operation.ID, name)
			status, header := http.StatusUnauthorized, `Bearer realm="outboxie admin"`+c.header
			if c.code == "insufficient_scope" {
				status, header = http.StatusForbidden, header+`"`+string(needed)+`"`
			}
			require.Equal(t, status, got.status, "%s, %s", operation.ID, name)
			require.Equal(t, header, got.header.Get("WWW-Authenticate"), "%s, %s", operation.ID, name)
		}
	}
}

// TestMetricsNeedToRead checks that the read token, which Prometheus has, is enough for metrics, and not for any profile.
func TestMetricsNeedToRead(t *testing.T) {
	o := newOperated(t)
	for path, statuses := range map[string][2]int{
		"/metrics": {200, 200}, "/debug/pprof/": {403, 200}, "/debug/pprof/heap": {403, 200}, "/debug/pprof/cmdline": {403, 200},
		"/nothing": {404, 404},
	} {
		for i, sent := range []string{readToken, token} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.base+path, nil)
			require.NoError(t, err)
			request.Header.Set("Authorization", "Bearer "+sent)
			answer, err := direct.Do(request)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			require.Equal(t, statuses[i], answer.StatusCode, path)
		}
	}
}

// TestTwoTokensAreRefused checks that a request with two tokens is refused, because nobody knows which one counts.
func TestTwoTokensAreRefused(t *testing.T) {
	o := newOperated(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.base+"/outbox/status", nil)
	require.NoError(t, err)
	request.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + readToken}
	answer, err := direct.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
}

// TestTheAuditNamesTheOperator checks that the audit has the subject of an access token, and that nobody can take the name of the shared tokens.
func TestTheAuditNamesTheOperator(t *testing.T) {
	o := newOperated(t)
	all, err := contract.Operations()
	require.NoError(t, err)
	for _, operation := range all {
		if operation.ID != "RedriveEvents" {
			continue
		}
		for _, sent := range []string{
			token, readToken, o.issuer.Token("ada", "outboxie:write"), o.issuer.Token("bob", "outboxie:read"), o.issuer.Token("holder of the admin token", "outboxie:write"),
		} {
			o.send(operation, sent)
		}
	}
	var actors []string
	for line := range strings.Lines(o.said.String()) {
		if _, about, found := strings.Cut(line, "msg=audit "); found {
			actors = append(actors, strings.TrimPrefix(about[:strings.Index(about, " remote=")], `action="POST /outbox/redrive" request="{\"all\": true}" `))
		}
	}
	require.Equal(t, []string{
		`actor_type=api_key actor="holder of the admin token"`, "actor_type=user actor=ada", `actor_type=user actor="holder of the admin token"`,
	}, actors)
}

// TestOperatorsLearnThatTheIssuerIsDown checks that an access token that cannot be checked gets 503 and is no refusal, and that the shared
// tokens are accepted meanwhile.
func TestOperatorsLearnThatTheIssuerIsDown(t *testing.T) {
	verifier, err := oidc.New(oidc.Options{
		Issuer: infra.IssuerName, Audience: infra.Audience, KeysURL: "http://127.0.0.1:1/keys", CustomerClaim: "sub", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	said := new(logged)
	b := newAdminService(t, func(o *httpapi.AdminOptions) {
		o.Open, o.Token, o.Issuer, o.Logger = false, token, verifier.Operators(), slog.New(slog.NewTextHandler(said, nil))
	})
	got := b.ask(http.MethodGet, "/outbox/status", "", "Authorization: Bearer "+infra.NewIssuer(t).Token("ada", "outboxie:read"))
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Contains(t, got.body, `"code":"issuer_unavailable"`)
	require.NotContains(t, said.String(), "wrong admin token")
	require.Equal(t, http.StatusOK, b.ask(http.MethodGet, "/outbox/status", "", authorized).status)
}
