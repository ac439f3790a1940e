package oidc_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// logBuffer keeps what a verifier logs.
type logBuffer struct{ infra.Buffer }

// waitFor waits until the verifier has logged a text.
func (b *logBuffer) waitFor(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(b.String(), text) }, 20*time.Second, time.Millisecond, "%q is not in the log:\n%s", text, b)
}

// discovering returns a verifier that runs, and discovers the keys of the issuer with this name. Its log is in the buffer.
func discovering(t *testing.T, name string) (*oidc.Verifier, *logBuffer) {
	t.Helper()
	logged := new(logBuffer)
	v := verifier(t, func(o *oidc.Options) { o.Issuer, o.Logger = name, slog.New(slog.NewTextHandler(logged, nil)) })
	runs(t, v)
	return v, logged
}

// TestDiscovery checks that the keys are found from the name of the issuer alone, at each place where its document may be.
func TestDiscovery(t *testing.T) {
	for name, place := range map[string]struct{ issuer, document string }{
		"OpenID":                 {"", "/.well-known/openid-configuration"},
		"OpenID, slash":          {"/", "/.well-known/openid-configuration"},
		"OpenID, path":           {"/realms/shop", "/realms/shop/.well-known/openid-configuration"},
		"OpenID, path and slash": {"/realms/shop/", "/realms/shop/.well-known/openid-configuration"},
		"RFC 8414":               {"", "/.well-known/oauth-authorization-server"},
		"RFC 8414, path":         {"/realms/shop", "/.well-known/oauth-authorization-server/realms/shop"},
	} {
		issuer, names := infra.NewIssuer(t), http.NewServeMux()
		server := httptest.NewServer(names)
		t.Cleanup(server.Close)
		names.Handle("/jwks", issuer)
		names.HandleFunc(place.document, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, server.URL+place.issuer, server.URL+"/jwks")
		})
		v, logged := discovering(t, server.URL+place.issuer)
		logged.waitFor(t, "are read")
		require.NotContains(t, logged.String(), "WARN", name)
		_, err := v.Authenticate(t.Context(), issuer.Token(customer, scope, jwt.MapClaims{"iss": server.URL + place.issuer}))
		require.NoError(t, err, name)
		_, err = v.Authenticate(t.Context(), issuer.Token(customer, scope))
		require.ErrorIs(t, err, orders.ErrToken, "the iss of a token must be the issuer, too")
	}
}

// TestDiscoveryFollowsTheKeys checks that a token with a new key makes the verifier find the keys at a new address, and that tokens with unknown
// keys cannot make it ask the issuer often.
func TestDiscoveryFollowsTheKeys(t *testing.T) {
	issuer := infra.NewIssuer(t)
	name := issuer.Publish()
	from := jwt.MapClaims{"iss": name}
	v, logged := discovering(t, name)
	logged.waitFor(t, "are read")
	_, err := v.Authenticate(t.Context(), issuer.Token(customer, scope, from))
	require.NoError(t, err)
	require.Equal(t, 2, issuer.Requests(), "the document and the keys")

	issuer.MoveKeys("/new-keys")
	issuer.AddKey("EdDSA", "new")
	issuer.Withdraw("RS256")
	_, err = v.Authenticate(t.Context(), issuer.Sign("EdDSA", "new", infra.Claims(customer, scope, from)))
	require.NoError(t, err)
	_, err = v.Authenticate(t.Context(), issuer.Sign("RS256", "RS256", infra.Claims(customer, scope, from)))
	require.ErrorIs(t, err, orders.ErrToken, "the issuer has withdrawn the key")
	for range 100 {
		_, err := v.Authenticate(t.Context(), issuer.Sign("EdDSA", "unknown", infra.Claims(customer, scope, from)))
		require.ErrorIs(t, err, orders.ErrToken)
	}
	require.Equal(t, 4, issuer.Requests())
}

// TestDiscoveryStartsWithoutTheIssuer checks that a verifier starts while nothing listens at the issuer's address, accepts tokens when the issuer
// is there, and uses the keys that it knows when the issuer is gone again.
func TestDiscoveryStartsWithoutTheIssuer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	issuer, name := infra.NewIssuer(t), "http://"+address
	token := issuer.Token(customer, scope, jwt.MapClaims{"iss": name})
	v, logged := discovering(t, name)
	_, err = v.Authenticate(t.Context(), token)
	require.ErrorIs(t, err, orders.ErrNoKeys)
	logged.waitFor(t, "cannot be read")

	listener, err = net.Listen("tcp", address)
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: issuer}} //nolint:gosec // only the verifier asks it
	issuer.PublishAt(name)
	server.Start()
	t.Cleanup(server.Close)
	logged.waitFor(t, "are read")
	_, err = v.Authenticate(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(logged.String(), "level=WARN"), logged.String())

	issuer.SetDown(true)
	_, err = v.Authenticate(t.Context(), token)
	require.NoError(t, err)
}

// TestUnusableDocuments checks that a document which is not the issuer's own, or leads to keys that others could replace, is not used, that
// neither a huge nor an endless document is read to its end, and that the log says what is wrong and what to do.
func TestUnusableDocuments(t *testing.T) {
	issuer := infra.NewIssuer(t)
	other := httptest.NewServer(issuer) // publishes the keys of the issuer, so that only the check refuses them
	t.Cleanup(other.Close)
	for name, c := range map[string]struct {
		document func(w http.ResponseWriter, self string)
		says     string
	}{
		"none":            {func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusNotFound) }, "has no document for discovery"},
		"failing":         {func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusForbidden) }, "answers 403 Forbidden"},
		"no JSON":         {func(w http.ResponseWriter, _ string) { fmt.Fprint(w, "<html>") }, "is not valid"},
		"no issuer":       {documentWith("", other.URL), "set AUTH_ISSUER"},
		"wrong issuer":    {documentWith("https://id.example.com", other.URL), "about the issuer \\\"https://id.example.com\\\""},
		"no keys":         {documentWith("SELF", ""), "jwks_uri"},
		"http keys":       {documentWith("SELF", "http://id.example.com/keys"), "must be an https URL"},
		"a file of keys":  {documentWith("SELF", "file:///etc/keys"), "must be an https URL"},
		"a relative path": {documentWith("SELF", "/keys"), "must be an https URL"},
		"keys and a user": {documentWith("SELF", "https://me:pw@id.example.com/keys"), "must be an https URL"},
		"a slash more":    {documentWith("SELF/", other.URL), "set AUTH_ISSUER"},
		"elsewhere":       {func(w http.ResponseWriter, _ string) { redirect(w, other.URL) }, "redirects to another host"},
		"in a circle":     {func(w http.ResponseWriter, self string) { redirect(w, self) }, "redirects more than 3 times"},
		"keys elsewhere":  {documentWith("SELF", "SELF/redirect?to="+other.URL), "redirects to another host"},
		"huge":            {huge, "answers more than 1048576 bytes"},
		"endless":         {endless, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if to := r.FormValue("to"); to != "" {
					redirect(w, to)
					return
				}
				c.document(w, server.URL)
			}))
			t.Cleanup(server.Close)
			v, logged := discovering(t, server.URL)
			logged.waitFor(t, c.says)
			_, err := v.Authenticate(t.Context(), issuer.Token(customer, scope, jwt.MapClaims{"iss": server.URL}))
			require.ErrorIs(t, err, orders.ErrNoKeys)
		})
	}
}

// documentWith answers a document with this issuer and these keys. SELF is the address of the server.
func documentWith(issuer, keys string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, self string) {
		named := strings.NewReplacer("SELF", self)
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, named.Replace(issuer), named.Replace(keys))
	}
}

func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
}

// huge answers a valid document that is larger than any that is read.
func huge(w http.ResponseWriter, self string) {
	fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q, "more": %q}`, self, self, strings.Repeat("x", 1<<20))
}

// endless answers a space now and then, until the client goes away.
func endless(w http.ResponseWriter, _ string) {
	for {
		if _, err := io.WriteString(w, " "); err != nil {
			return
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestADifferentFailureIsLogged checks that the log has each new reason once: an operator sees that the issuer is there again, and what else is wrong.
func TestADifferentFailureIsLogged(t *testing.T) {
	issuer := infra.NewIssuer(t)
	var hangUp, moved atomic.Bool
	hangUp.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case hangUp.Load():
			panic(http.ErrAbortHandler)
		case moved.Load():
			redirect(w, "http://id.example.com")
		default:
			issuer.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	issuer.PublishAt("https://id.example.com")
	_, logged := discovering(t, server.URL)
	logged.waitFor(t, "EOF")
	hangUp.Store(false)
	logged.waitFor(t, "set AUTH_ISSUER to the former")
	moved.Store(true)
	logged.waitFor(t, "redirects to another host")
	require.Equal(t, 3, strings.Count(logged.String(), "level=WARN"), logged.String())
}

// TestIssuersWithoutAnAddress checks that a verifier is not made if its keys can only be discovered, and others could answer in place of the issuer.
func TestIssuersWithoutAnAddress(t *testing.T) {
	for _, name := range []string{"", "development", "http://id.example.com", "https://", "https://me:pw@id.example.com", "https://id.example.com?a=b", "https://id.example.com/#a"} {
		_, err := oidc.New(oidc.Options{Issuer: name, Audience: "a", Logger: slog.New(slog.DiscardHandler)})
		require.ErrorContains(t, err, "set AUTH_JWKS_URL", name)
	}
}
