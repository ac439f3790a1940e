package main

import (
	"context"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

var errKeys = fault.New(fault.Invalid, "issuer_keys", "the keys of the issuer of tokens cannot be used")

// authentication is how the API finds out who sends requests.
type authentication struct {
	authenticator orders.Authenticator            // nil: the API does not ask
	run           func(ctx context.Context) error // nil: nothing runs beside the API
}

// newAuthentication returns the authentication that the settings ask for. It logs if the API does not ask who sends requests.
func newAuthentication(c config.Config, logger *slog.Logger) (authentication, error) {
	const open = "the API does not ask who sends requests: everybody who reaches it may place, change and read all orders"
	switch {
	case c.Auth.Mode == config.AuthOff:
		logger.Warn(open+", because AUTH is off", "addr", c.HTTP.Addr)
		return authentication{}, nil
	case !c.Auth.On():
		logger.Info(open+", because AUTH_ISSUER is not set", "addr", c.HTTP.Addr)
		return authentication{}, nil
	}
	verifier, err := oidc.New(oidc.Options{
		Issuer: c.Auth.Issuer, Audience: c.Auth.Audience, KeysURL: c.Auth.KeysURL, KeysFile: c.Auth.KeysFile,
		CustomerClaim: c.Auth.CustomerClaim, Logger: logger,
	})
	if err != nil {
		return authentication{}, errKeys.With("correct AUTH_JWKS_FILE or AUTH_ISSUER: %v", err)
	}
	logger.Info("the API asks for tokens", "issuer", c.Auth.Issuer, "audience", c.Auth.Audience)
	return authentication{verifier, verifier.Run}, nil
}

func runAuthentication(background background, a authentication) {
	if a.run != nil {
		background.run("keys of the issuer of tokens", a.run)
	}
}
