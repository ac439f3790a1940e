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
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
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
	customer, service, operator string
	scopes                      []string
	lifetime                    time.Duration
}

func (p *program) tokenCommand() *cobra.Command {
	var options tokenOptions
	cmd := &cobra.Command{
		Use:   "token (--customer ID | --service NAME | --operator NAME) [--scope SCOPE,…] [--lifetime 1h]",
		Short: "Make an access token for development",
		Long: "Make an access token, signed with a key in the data folder, and print it. An issuer's tokens replace it in production. The key is\n" +
			"made if there is none. The API, or the admin listener, accepts the token with AUTH_ISSUER=" + developmentIssuer + ", AUTH_AUDIENCE=" + developmentAudience + "\n" +
			"and AUTH_JWKS_FILE=" + config.Default().Playground.DataDir + "/" + oidc.KeySetFile + ", as `make run ARGS=--auth` sets them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			request, err := options.request()
			if err != nil {
				return err
			}
			return p.token(c, request)
		},
	}
	cmd.Flags().StringVar(&options.customer, "customer", "", "the `id` of the customer whose orders the token is for, a UUID")
	cmd.Flags().StringVar(&options.service, "service", "", "the `name` of the service that the token is for; it reaches all orders")
	cmd.Flags().StringVar(&options.operator, "operator", "", "the `name` of the operator whom the token lets use the admin listener and its console")
	cmd.Flags().StringSliceVar(&options.scopes, "scope", nil,
		"the `scopes` of the token; without it a customer gets orders:place, orders:read and orders:cancel, and a service all scopes; an\n"+
			"operator has read (the default) or write")
	cmd.Flags().DurationVar(&options.lifetime, "lifetime", time.Hour, "how long the token is valid, at most 24h")
	return cmd
}

var tokenHolder = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// request returns the token that the flags describe, without its issuer.
func (o tokenOptions) request() (oidc.TokenRequest, error) {
	request := oidc.TokenRequest{Lifetime: o.lifetime}
	if !exactlyOne(o.customer != "", o.service != "", o.operator != "") {
		return request, errUsage.With("name whom the token is for: --customer ID, --service NAME or --operator NAME")
	}
	for flag, name := range map[string]string{"--service": o.service, "--operator": o.operator} {
		if name != "" && !tokenHolder.MatchString(name) {
			return request, errUsage.With("%s must be 1 to 64 letters, digits, - and _", flag)
		}
	}
	if o.lifetime <= 0 || o.lifetime > maxTokenLifetime {
		return request, errUsage.With("--lifetime must be longer than 0, and at most %s", maxTokenLifetime)
	}
	var err error
	if o.operator != "" {
		request.Principal = order.Principal{Kind: order.KindOperator, ID: o.operator}
		request.Scope, err = o.operatorScope()
	} else {
		request.Principal, err = o.principal()
	}
	return request, err
}

// operatorScope returns the scope of an operator that the flags describe.
func (o tokenOptions) operatorScope() (operations.Scope, error) {
	if o.scopes == nil {
		return operations.ScopeRead, nil
	}
	scope := operations.Scope(strings.Join(o.scopes, ","))
	if scope != operations.ScopeRead && scope != operations.ScopeWrite {
		return "", errUsage.With("an operator has no scope %q; --scope must be read, or write, which includes read", string(scope))
	}
	return scope, nil
}

// principal returns the customer or the service that the flags describe.
func (o tokenOptions) principal() (order.Principal, error) {
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

// token prints a token.
func (p *program) token(c config.Config, request oidc.TokenRequest) error {
	key, err := oidc.MakeDevelopmentKey(c.Playground.DataDir)
	if err != nil {
		return errKeys.With("no token can be signed: %v", err)
	}
	request.Issuer, request.Audience = cmp.Or(c.Auth.Issuer, developmentIssuer), cmp.Or(c.Auth.Audience, developmentAudience)
	request.CustomerClaim = c.Auth.CustomerClaim
	token, err := key.Sign(request, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, token)
	return err
}
