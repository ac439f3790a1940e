package main

import (
	"log/slog"
	"path/filepath"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

var errToken = fault.New(fault.Invalid, "admin_token", "the token of the admin listener cannot be used")

// adminToken returns the token of the admin listener, and whether the listener is open to everybody. It logs where the token is. If the token
// cannot be stored, this is an error only if ADMIN_TOKEN_FILE is set; otherwise the listener answers probes only.
func adminToken(c config.Config, logger *slog.Logger) (token string, open bool, err error) {
	made, err := c.MakeToken()
	switch {
	case made == config.Off:
		logger.Warn("the admin listener asks for no token, because ADMIN_TOKEN is off: everybody who reaches it may redrive events and read profiles",
			"addr", c.HTTP.AdminAddr)
		return "", true, nil
	case err != nil && c.HTTP.AdminTokenFile != "":
		return "", false, errToken.With("ADMIN_TOKEN_FILE cannot be used: %v", err)
	case err != nil:
		logger.Warn("the admin listener answers probes alone, because there is no token: set ADMIN_TOKEN, or ADMIN_TOKEN_FILE to a file that can be written",
			"error", err)
	case c.HTTP.AdminToken == "":
		logger.Info("the admin listener asks for the token in a file", "file", tokenFile(c))
	}
	return string(made), false, nil
}

// tokenFile returns the absolute path of the token's file, because an operator may be in another folder.
func tokenFile(c config.Config) string {
	file, err := filepath.Abs(c.TokenFile())
	if err != nil {
		return c.TokenFile()
	}
	return file
}
