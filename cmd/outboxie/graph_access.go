package main

import (
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

var errKeys = fault.New(fault.Invalid, "issuer_keys", "the keys of the issuer of tokens cannot be used")

// tokenIssuer checks the access tokens of the issuer in AUTH_ISSUER, for the API and for operators.
type tokenIssuer struct {
	verifier *oidc.Verifier // nil: there is no issuer
}

// newTokenIssuer returns the issuer that the settings name. Its keys are read while the graph runs.
func newTokenIssuer(c config.Config, background background, logger *slog.Logger) (tokenIssuer, error) {
	if !c.Auth.On() {
		return tokenIssuer{}, nil
	}
	verifier, err := oidc.New(oidc.Options{
		Issuer: c.Auth.Issuer, Audience: c.Auth.Audience, KeysURL: c.Auth.KeysURL, KeysFile: c.Auth.KeysFile,
		CustomerClaim: c.Auth.CustomerClaim, Logger: logger,
	})
	if err != nil {
		return tokenIssuer{}, errKeys.With("correct AUTH_JWKS_FILE or AUTH_ISSUER: %v", err)
	}
	background.run("keys of the issuer of tokens", verifier.Run)
	return tokenIssuer{verifier}, nil
}

// operators returns the authenticator for the access tokens of operators. It returns nil if the settings name no issuer.
func (i tokenIssuer) operators() operations.Authenticator {
	if i.verifier == nil {
		return nil
	}
	return i.verifier.Operators()
}

// authentication is how the API finds out who sends requests.
type authentication struct {
	authenticator orders.Authenticator // nil: the API does not ask
}

// newAuthentication returns the authentication that the settings ask for. It logs if the API does not ask who sends requests.
func newAuthentication(c config.Config, issuer tokenIssuer, logger *slog.Logger) authentication {
	const open = "the API does not ask who sends requests: everybody who reaches it may place, change and read all orders"
	switch {
	case c.Auth.Mode == config.AuthOff:
		logger.Warn(open+", because AUTH is off", "addr", c.HTTP.Addr)
	case issuer.verifier == nil:
		logger.Info(open+", because AUTH_ISSUER is not set", "addr", c.HTTP.Addr)
	default:
		logger.Info("the API asks for tokens", "issuer", c.Auth.Issuer, "audience", c.Auth.Audience)
		return authentication{issuer.verifier}
	}
	return authentication{}
}
