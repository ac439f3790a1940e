// Package oidc checks the access tokens of an OpenID Connect issuer. A program makes a Verifier with New, and runs Run beside it. Run gets the
// keys of the issuer. A program can start while the issuer is not there: until Run has the keys, every check fails with orders.ErrNoKeys.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// The clocks of the issuer and of this machine may differ so much.
const leeway = 30 * time.Second

// maxSubject is the longest name of a principal in bytes.
const maxSubject = 255

// algorithms are the accepted ones. A shared secret (HS256) would let every service that checks tokens make them, too.
var algorithms = []string{"RS256", "ES256", "EdDSA"}

// Options says which tokens are accepted. All fields except KeysURL, KeysFile and Now are required.
type Options struct {
	Issuer        string // without KeysURL and KeysFile a URL, at which the address of the keys is discovered
	Audience      string
	KeysURL       string // of the issuer's JSON Web Key Set
	KeysFile      string // a file with the key set, instead of KeysURL
	CustomerClaim string // the claim with the customer's id
	Logger        *slog.Logger
	Now           func() time.Time // nil: time.Now
}

// Verifier checks tokens.
type Verifier struct {
	options Options
	keys    *keySet
	parser  *jwt.Parser
	client  *http.Client
}

var _ orders.Authenticator = (*Verifier)(nil)

// New returns a verifier. It reads KeysFile, and fails if the file has no keys, or if the keys of an Issuer with this name cannot be discovered. It
// does not ask the issuer.
func New(options Options) (*Verifier, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	v := &Verifier{options: options, client: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone(), CheckRedirect: sameHost}}
	v.parser = jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithIssuer(options.Issuer), jwt.WithAudience(options.Audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(options.Now))
	switch {
	case options.KeysURL != "":
		v.keys = newKeySet(fromURL(options.KeysURL, v.client))
	case options.KeysFile != "":
		v.keys = newKeySet(fromFile(options.KeysFile))
		if err := v.keys.refresh(context.Background()); err != nil {
			return nil, fmt.Errorf("read the keys of the issuer: %w", err)
		}
	default:
		read, err := discovered(options.Issuer, v.client)
		if err != nil {
			return nil, err
		}
		v.keys = newKeySet(read)
	}
	return v, nil
}

// Run gets the keys, and gets them again from time to time. While it has no keys, it tries again after a second, and then after twice the time
// of the last wait, up to ten seconds. It returns nil when ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	defer v.client.CloseIdleConnections()
	logged := "not read yet" // what is wrong, as far as the log says
	for failures := 0; ; {
		err := v.keys.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		_, known := v.keys.lookUp("", "")
		now := kindOfFailure(err)
		switch {
		case now != "" && now != logged:
			v.options.Logger.WarnContext(ctx, "the keys of the issuer of tokens cannot be read: tokens with known keys are accepted, all others are refused",
				"issuer", v.options.Issuer, "error", err, "keys_known", known)
		case now == "" && logged != "":
			v.options.Logger.InfoContext(ctx, "the keys of the issuer of tokens are read", "issuer", v.options.Issuer)
		}
		logged = now
		pause := refreshInterval
		if failures++; err == nil {
			failures = 0
		} else {
			pause = retryAfter(failures, known)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// kindOfFailure returns a text that stays the same as long as the same thing is wrong. It is empty if nothing is. Errors of connections differ in
// details, such as ports.
func kindOfFailure(err error) string {
	var connection *net.OpError
	var network net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &connection) || errors.As(err, &network) && network.Timeout():
		return "the issuer cannot be reached"
	}
	return err.Error()
}

// retryAfter returns the wait after a number of failures in a row.
func retryAfter(failures int, known bool) time.Duration {
	if known {
		return unknownInterval
	}
	return min(firstRetry<<min(failures-1, 4), unknownInterval)
}

// Authenticate checks the token's signature, issuer, audience and time. Scopes are the claim scope, a text with spaces between them, or the
// claim scp, a list. A token with the scope orders:any is a service's. Every other token is a customer's.
func (v *Verifier) Authenticate(ctx context.Context, token string) (order.Principal, error) {
	claims, known, err := v.verify(ctx, token)
	switch {
	case err != nil && !known:
		return order.Principal{}, orders.ErrNoKeys
	case err != nil:
		return order.Principal{}, orders.ErrToken.With("%s", reason(err)).Wrap(err)
	}
	return v.principal(claims)
}

// verify returns the claims of a token. known is false if the keys of the issuer are not known yet.
func (v *Verifier) verify(ctx context.Context, token string) (claims jwt.MapClaims, known bool, err error) {
	claims, known = jwt.MapClaims{}, true
	_, err = v.parser.ParseWithClaims(token, claims, func(parsed *jwt.Token) (any, error) {
		if _, critical := parsed.Header["crit"]; critical {
			return nil, errors.New("the token has critical headers, and none is supported")
		}
		id, _ := parsed.Header["kid"].(string)
		var found []key
		found, known = v.keys.find(ctx, id, parsed.Method.Alg())
		set := jwt.VerificationKeySet{}
		for _, k := range found {
			set.Keys = append(set.Keys, k.public)
		}
		if len(set.Keys) == 0 {
			return nil, errUnknownKey
		}
		return set, nil
	})
	return claims, known, err
}

var errUnknownKey = errors.New("the key is unknown")

// reason says why a token is not accepted. It repeats nothing of the token.
func reason(err error) string {
	for _, known := range []struct {
		is   error
		text string
	}{
		{errUnknownKey, "the token is signed with a key that the issuer does not publish"},
		{jwt.ErrTokenMalformed, "the token is not a JSON Web Token"},
		{jwt.ErrTokenSignatureInvalid, "the token's signature or algorithm is not accepted; it must be RS256, ES256 or EdDSA"},
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenInvalidAudience, "the token is for another audience"},
		{jwt.ErrTokenInvalidIssuer, "the token is from another issuer"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a claim; it needs iss, aud, exp and sub"},
	} {
		if errors.Is(err, known.is) {
			return known.text
		}
	}
	return "the token cannot be verified"
}

// subject returns the name in the claims. It reports false for a name that an event's header or a log line cannot carry.
func subject(claims jwt.MapClaims) (name string, valid bool) {
	name, _ = claims["sub"].(string)
	return name, name != "" && len(name) <= maxSubject && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

var wrongSubject = fmt.Sprintf("the token's sub must be a text of 1 to %d bytes without control characters", maxSubject)

// principal returns the principal that the claims name.
func (v *Verifier) principal(claims jwt.MapClaims) (order.Principal, error) {
	id, valid := subject(claims)
	if !valid {
		return order.Principal{}, orders.ErrToken.With("%s", wrongSubject)
	}
	who := order.Principal{Kind: order.KindCustomer, ID: id}
	granted := scopes(claims)
	for _, permission := range order.Permissions() {
		if slices.Contains(granted, string(permission)) {
			who.Permissions = append(who.Permissions, permission)
		}
	}
	if who.May(order.MayReachAll) {
		who.Kind = order.KindService
		return who, nil
	}
	named, _ := claims[v.options.CustomerClaim].(string)
	if customer, err := value.ParseCustomerID(named); err == nil {
		who.Customer = customer
	}
	return who, nil
}

func scopes(claims jwt.MapClaims) []string {
	var granted []string
	for _, name := range []string{"scope", "scp"} {
		switch value := claims[name].(type) {
		case string:
			granted = append(granted, strings.Fields(value)...)
		case []any:
			for _, scope := range value {
				if text, ok := scope.(string); ok {
					granted = append(granted, text)
				}
			}
		}
	}
	return granted
}
