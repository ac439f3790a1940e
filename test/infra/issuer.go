package infra

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// The names in the tokens of an Issuer.
const (
	IssuerName = "https://id.example.com"
	Audience   = "orders"
)

// Issuer makes access tokens, and publishes its keys as a handler of HTTP and in files. It has a key for each algorithm.
type Issuer struct {
	t       testing.TB
	methods map[string]jwt.SigningMethod
	keys    map[string]any // by algorithm; also "HS256"

	mu       sync.Mutex
	set      []jwkset.JWKMarshal
	requests int
	down     bool   // the handler answers 503
	address  string // the issuer's name in the document; empty: there is none, and every path has the keys
	path     string // of the keys
}

// rsaKey returns the RSA key of all issuers of a test's process, because it takes long to make one.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewIssuer returns an issuer with one key for each of RS256, ES256 and EdDSA. The id of a key is its algorithm.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t, keys: map[string]any{"HS256": []byte("a secret that everybody knows who knows the key set")}}
	i.methods = map[string]jwt.SigningMethod{
		"RS256": jwt.SigningMethodRS256, "ES256": jwt.SigningMethodES256, "EdDSA": jwt.SigningMethodEdDSA, "HS256": jwt.SigningMethodHS256,
		"RS512": jwt.SigningMethodRS512, "none": jwt.SigningMethodNone,
	}
	i.keys["none"] = jwt.UnsafeAllowNoneSignatureType
	i.AddKey("RS256", "RS256")
	i.AddKey("ES256", "ES256")
	i.AddKey("EdDSA", "EdDSA")
	i.keys["RS512"] = i.keys["RS256"]
	return i
}

// AddKey makes a new key for an algorithm, publishes it, and signs with it from now on.
func (i *Issuer) AddKey(algorithm, id string) {
	i.t.Helper()
	var private, public any
	switch algorithm {
	case "RS256":
		key, err := rsaKey()
		require.NoError(i.t, err)
		private, public = key, &key.PublicKey
	case "ES256":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(i.t, err)
		private, public = key, &key.PublicKey
	default:
		key, secret, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(i.t, err)
		private, public = secret, key
	}
	published, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id, USE: jwkset.UseSig}})
	require.NoError(i.t, err)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[algorithm] = private
	i.set = append(i.set, published.Marshal())
}

// Withdraw stops publishing the key with this id.
func (i *Issuer) Withdraw(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var kept []jwkset.JWKMarshal
	for _, key := range i.set {
		if key.KID != id {
			kept = append(kept, key)
		}
	}
	i.set = kept
}

// KeySet returns the published keys as JSON.
func (i *Issuer) KeySet() []byte {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	text, err := json.Marshal(jwkset.JWKSMarshal{Keys: i.set})
	require.NoError(i.t, err)
	return text
}

// KeysFile writes the published keys into a new file.
func (i *Issuer) KeysFile() string {
	i.t.Helper()
	file := filepath.Join(i.t.TempDir(), "keys.json")
	require.NoError(i.t, os.WriteFile(file, i.KeySet(), 0o600))
	return file
}

// Publish starts a server with the issuer's keys and with its document for discovery, which says where the keys are. It returns the address of the
// server. This is the name of the issuer in the document, and must be the iss of tokens.
func (i *Issuer) Publish() string {
	i.t.Helper()
	server := httptest.NewServer(i)
	i.t.Cleanup(server.Close)
	i.PublishAt(server.URL)
	return server.URL
}

// PublishAt makes the handler answer with the document, in which this address is the name of the issuer.
func (i *Issuer) PublishAt(address string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.address, i.path = address, "/keys"
}

// MoveKeys publishes the keys at this path only, and names it in the document.
func (i *Issuer) MoveKeys(path string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.path = path
}

// ServeHTTP answers with the published keys. After PublishAt it answers with the document, too.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests++
	down, address, path := i.down, i.address, i.path
	i.mu.Unlock()
	switch {
	case down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case address == "" || r.URL.Path == path:
		_, _ = w.Write(i.KeySet())
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": address, "jwks_uri": address + path})
	default:
		http.NotFound(w, r)
	}
}

// SetDown sets whether the handler answers 503.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Requests returns how many requests the handler has had.
func (i *Issuer) Requests() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests
}

// Claims returns the claims of a valid token. Further claims are added. A nil removes the claim.
func Claims(subject, scope string, more ...jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{
		"iss": IssuerName, "aud": Audience, "sub": subject, "scope": scope,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for _, further := range more {
		maps.Copy(claims, further)
	}
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// Sign makes a token. Its key id is keyID; empty: it has none. The algorithm can also be HS256, RS512 or none, which nobody should accept.
func (i *Issuer) Sign(algorithm, keyID string, claims jwt.MapClaims, header ...string) string {
	i.t.Helper()
	token := jwt.NewWithClaims(i.methods[algorithm], claims)
	if keyID != "" {
		token.Header["kid"] = keyID
	}
	for n := 0; n+1 < len(header); n += 2 {
		token.Header[header[n]] = header[n+1]
	}
	i.mu.Lock()
	key := i.keys[algorithm]
	i.mu.Unlock()
	text, err := token.SignedString(key)
	require.NoError(i.t, err)
	return text
}

// Token makes a valid token of ES256.
func (i *Issuer) Token(subject, scope string, more ...jwt.MapClaims) string {
	i.t.Helper()
	return i.Sign("ES256", "ES256", Claims(subject, scope, more...))
}
