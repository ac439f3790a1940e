package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func (p *program) devCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: Postgres, NATS, API, relay, subscribers",
		Long: "Run everything in one process: a real Postgres and a real NATS of its own (unless DATABASE_URL or NATS_URL says\n" +
			"where others are), the API, the relay and subscribers. Data is kept in --data-dir between runs; --fresh deletes that of both.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			return p.dev(cmd.Context(), c)
		},
	}
	config.AddFlags(cmd.Flags(), config.HTTPAddr, config.AdminAddr, config.DataDir, config.PostgresPort, config.NATSPort,
		config.Fresh, config.Subscribers, config.JaegerURL)
	return cmd
}

func (p *program) dev(ctx context.Context, c config.Config) (err error) {
	began := time.Now()
	logger, flush, err := p.serviceLogger(ctx, c, serviceName)
	if err != nil {
		return err
	}
	defer flush()
	listeners, err := bind(ctx, c, true, true)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, listeners.close()) }()
	servers := &servers{}
	defer func() { err = cmp.Or(err, servers.stop()) }()
	if err := servers.startMissing(ctx, &c, logger); err != nil {
		return stopped(ctx, err)
	}
	if err := prepareDatabase(ctx, c, logger); err != nil {
		return stopped(ctx, err)
	}
	traces := findTraces(ctx, c.Jaeger.URL)
	return runApp(ctx, fx.New(devGraph(c, logger), fx.Supply(listeners), traces.graph(logger), fx.Invoke(
		func(b background, api *httpapi.API, admin *httpapi.Admin, options httpapi.AdminOptions, tracing *telemetry.Telemetry) {
			b.run("postgres", servers.watch)
			b.Lifecycle.Append(fx.StartHook(func() error {
				return introduce(p.stdout, c, servers, api.Addr(), admin.Addr(), describeToken(c, options.Token, p.stdout),
					traces.describe(tracing.Exporting(), c.Jaeger.URL), time.Since(began))
			}))
		})))
}

func devGraph(c config.Config, logger *slog.Logger) fx.Option {
	ids := make([]string, c.Dev.Subscribers)
	for i := range ids {
		ids[i] = fmt.Sprintf("subscriber-%d", i+1)
	}
	return fx.Options(
		foundation(c, serviceName, logger), serving(c), subscribers(true, ids...), administering(),
		fx.Decorate(func(checks []httpapi.Check, admin inbox.DeadLetterAdmin, running *running) []httpapi.Check {
			return append(append(checks, running.check()), letterChecks(admin, ids...)...)
		}),
	)
}

// introduce tells a newcomer what runs, where, and what to try.
func introduce(out io.Writer, c config.Config, s *servers, api, admin, token, traces string, took time.Duration) error {
	database, broker := "given by DATABASE_URL", "given by NATS_URL"
	if s.postgres != nil {
		database = fmt.Sprintf("Postgres %s from %s, data in %s", s.postgres.Version(), s.postgres.Home(), s.postgres.DataDir())
	}
	if s.nats != nil {
		broker = "NATS with JetStream, in this process"
	}
	_, err := fmt.Fprintf(out, `
Outboxie %s is ready after %.1f s.

  API          http://%s/orders
  health       http://%s/readyz
  metrics      http://%s/metrics
  admin token  %s
  database     %s
               %s
  broker       %s
               %s   stream %s
  subscribers  %d
  traces       %s

Place an order, and see it delivered:

  curl -i -X POST http://%s/orders -H "Content-Type: application/json" \
       -d '{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 100.50}'

Join with another instance:

  DATABASE_URL='%s' NATS_URL='%s' HTTP_ADDR=127.0.0.1:0 ADMIN_ADDR=127.0.0.1:0 %s serve

or, with the same DATABASE_URL and NATS_URL, with a subscriber that answers paid orders with events of its own:

  %s subscribe --id parcels --handler fulfillment

Ctrl-C stops everything.

`, release(), took.Seconds(), api, admin, admin, token, database, c.Database.URL, broker, c.NATS.URL, c.Stream.Name, c.Dev.Subscribers,
		traces, api, joinURL(c.Database.URL, s.postgres != nil), joinURL(c.NATS.URL, s.nats != nil), os.Args[0], os.Args[0])
	return err
}

// joinURL shows the password only of a server that this process started on loopback for itself.
func joinURL(url config.URL, own bool) string {
	if own {
		return string(url)
	}
	return url.String()
}
