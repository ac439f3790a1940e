package main

import (
	"log/slog"
	"path/filepath"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var errToken = fault.New(fault.Invalid, "admin_token", "the token of the admin listener cannot be used")

// access says who may use the admin listener and the console.
type access struct {
	token, readToken string // empty: nobody has such a token
	open             bool   // nobody needs a token
	issuer           operations.Authenticator
}

// newAccess returns who may use the admin listener. It logs where the token is. If the token cannot be stored, this is an error only if
// ADMIN_TOKEN_FILE is set; otherwise only operators with another token get more than the probes.
func newAccess(c config.Config, issuer tokenIssuer, logger *slog.Logger) (access, error) {
	made, err := c.MakeToken()
	switch {
	case made == config.Off:
		logger.Warn("the admin listener asks for no token, because ADMIN_TOKEN is off: everybody who reaches it may redrive events and read profiles",
			"addr", c.HTTP.AdminAddr)
		return access{open: true}, nil
	case err != nil && c.HTTP.AdminTokenFile != "":
		return access{}, errToken.With("ADMIN_TOKEN_FILE cannot be used: %v", err)
	}
	who := access{token: string(made), issuer: issuer.operators()}
	read, wrong := c.ReadOnlyToken(made)
	if wrong != nil {
		return access{}, errToken.With("%v", wrong)
	}
	who.readToken = string(read)
	switch {
	case err != nil && read == "" && who.issuer == nil:
		logger.Warn("the admin listener answers probes alone, because there is no token: set ADMIN_TOKEN, or ADMIN_TOKEN_FILE to a file that can be written",
			"error", err)
	case err != nil:
		logger.Warn("the admin listener has no token that may do everything: set ADMIN_TOKEN, or ADMIN_TOKEN_FILE to a file that can be written", "error", err)
	case c.HTTP.AdminToken == "":
		logger.Info("the admin listener asks for the token in a file", "file", tokenFile(c))
	}
	if who.issuer != nil {
		logger.Info("the admin listener accepts access tokens with the scope "+operations.ScopeRead.Claim()+" or "+operations.ScopeWrite.Claim(),
			"issuer", c.Auth.Issuer, "audience", c.Auth.Audience)
	}
	return who, nil
}

// tokenFile returns the absolute path of the token's file, because an operator may be in another folder.
func tokenFile(c config.Config) string {
	file, err := filepath.Abs(c.TokenFile())
	if err != nil {
		return c.TokenFile()
	}
	return file
}
