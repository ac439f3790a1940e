package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/config"
)

// exampleCustomer is the customer in the order that the introduction shows.
const exampleCustomer = "550e8400-e29b-41d4-a716-446655440000"

// prepareAccess makes the key for tokens if --auth is given, and returns the settings with which the instance accepts them.
func (p *playground) prepareAccess(ctx context.Context, c config.Config) ([]string, error) {
	if !c.Playground.Auth {
		return nil, nil
	}
	command := exec.CommandContext(ctx, p.program, "token", "--service", "playground")
	command.Env = append(slices.Clone(p.environment), "OUTBOXIE_DATA_DIR="+c.Playground.DataDir)
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a key for tokens: %w: %s", err, printable.Line(strings.TrimSpace(string(output))))
	}
	return []string{
		"AUTH_ISSUER=outboxie-development", "AUTH_AUDIENCE=orders", "AUTH_JWKS_FILE=" + filepath.Join(c.Playground.DataDir, "auth-jwks.json"),
	}, nil
}

// describeAccess says who may use the API.
func (p *playground) describeAccess(c config.Config) string {
	switch {
	case c.Playground.Auth:
		return "with tokens: " + p.tokenCommand(c) + ", --service NAME, or --operator NAME for the console"
	case c.Auth.On():
		return "with tokens of " + c.Auth.Issuer
	}
	return "everybody on this machine, without a token; --auth changes this"
}

func (p *playground) tokenCommand(c config.Config) string {
	folder := ""
	if c.Given(config.DataDir) {
		folder = "OUTBOXIE_DATA_DIR='" + c.Playground.DataDir + "' "
	}
	return folder + p.program + " token --customer " + exampleCustomer
}

// bearer returns the option with which curl sends a token, if the API asks for one.
func (p *playground) bearer(c config.Config) string {
	if !c.Playground.Auth {
		return ""
	}
	return ` -H "Authorization: Bearer $(` + p.tokenCommand(c) + `)"`
}
