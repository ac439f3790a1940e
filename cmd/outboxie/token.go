package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// The names in a token for development, unless AUTH_ISSUER and AUTH_AUDIENCE say otherwise.
const (
	developmentIssuer   = "outboxie-development"
	developmentAudience = "orders"
)

// maxTokenLifetime is the longest validity of a token for development.
const maxTokenLifetime = 24 * time.Hour

// tokenOptions are the flags of the command.
type tokenOptions struct {
	customer, service string
	scopes            []string
	lifetime          time.Duration
}

func (p *program) tokenCommand() *cobra.Command {
	var options tokenOptions
	cmd := &cobra.Command{
		Use:   "token (--customer ID | --service NAME) [--scope SCOPE,…] [--lifetime 1h]",
		Short: "Make an access token for development",
		Long: "Make an access token, signed with a key in the data folder, and print it. An issuer's tokens replace it in production. The key is\n" +
			"made if there is none. The API accepts the token with AUTH_ISSUER=" + developmentIssuer + ", AUTH_AUDIENCE=" + developmentAudience + "\n" +
			"and AUTH_JWKS_FILE=" + config.Default().Playground.DataDir + "/" + oidc.KeySetFile + ", as `make run ARGS=--auth` sets them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			who, err := options.principal()
			if err != nil {
				return err
			}
			return p.token(c, who, options.lifetime)
		},
	}
	cmd.Flags().StringVar(&options.customer, "customer", "", "the `id` of the customer whose orders the token is for, a UUID")
	cmd.Flags().StringVar(&options.service, "service", "", "the `name` of the service that the token is for; it reaches all orders")
	cmd.Flags().StringSliceVar(&options.scopes, "scope", nil,
		"the `scopes` of the token; without it a customer gets orders:place, orders:read and orders:cancel, and a service all scopes")
	cmd.Flags().DurationVar(&options.lifetime, "lifetime", time.Hour, "how long the token is valid, at most 24h")
	return cmd
}

var tokenHolder = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// principal returns the principal that the flags describe.
func (o tokenOptions) principal() (order.Principal, error) {
	if !exactlyOne(o.customer != "", o.service != "") {
		return order.Principal{}, errUsage.With("name whom the token is for: --customer ID or --service NAME")
	}
	if o.service != "" && !tokenHolder.MatchString(o.service) {
		return order.Principal{}, errUsage.With("--service must be 1 to 64 letters, digits, - and _")
	}
	if o.lifetime <= 0 || o.lifetime > maxTokenLifetime {
		return order.Principal{}, errUsage.With("--lifetime must be longer than 0, and at most %s", maxTokenLifetime)
	}
	who := order.Principal{Kind: order.KindService, ID: o.service, Permissions: order.Permissions()}
	if o.customer != "" {
		customer, err := value.ParseCustomerID(o.customer)
		if err != nil {
			return order.Principal{}, errUsage.With("--customer must be a UUID such as 550e8400-e29b-41d4-a716-446655440000")
		}
		who = order.Principal{
			Kind: order.KindCustomer, ID: string(customer), Customer: customer,
			Permissions: []order.Permission{order.MayPlace, order.MayRead, order.MayCancel},
		}
	}
	if o.scopes == nil {
		return who, nil
	}
	who.Permissions = nil
	for _, scope := range o.scopes {
		if !slices.Contains(order.Permissions(), order.Permission(scope)) {
			return order.Principal{}, errUsage.With("there is no scope %q; the scopes are %s", scope, allScopes())
		}
		who.Permissions = append(who.Permissions, order.Permission(scope))
	}
	return who, nil
}

func allScopes() string {
	var names []string
	for _, permission := range order.Permissions() {
		names = append(names, string(permission))
	}
	return strings.Join(names, ", ")
}

// token prints a token for the principal.
func (p *program) token(c config.Config, who order.Principal, lifetime time.Duration) error {
	key, err := oidc.MakeDevelopmentKey(c.Playground.DataDir)
	if err != nil {
		return errKeys.With("no token can be signed: %v", err)
	}
	token, err := key.Sign(oidc.TokenRequest{
		Issuer: cmp.Or(c.Auth.Issuer, developmentIssuer), Audience: cmp.Or(c.Auth.Audience, developmentAudience),
		CustomerClaim: c.Auth.CustomerClaim, Principal: who, Lifetime: lifetime,
	}, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, token)
	return err
}
