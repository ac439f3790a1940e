package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/embedded"
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
			"where others are), the API, the relay and subscribers. Data is kept in --data-dir between runs.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			return p.dev(cmd.Context(), c)
		},
	}
	config.AddFlags(cmd.Flags(), config.HTTPAddr, config.AdminAddr, config.DataDir, config.Fresh, config.Subscribers,
		config.JaegerURL)
	return cmd
}

func (p *program) dev(ctx context.Context, c config.Config) (err error) {
	began := time.Now()
	logger, flush, err := p.serviceLogger(ctx, c, serviceName)
	if err != nil {
		return err
	}
	defer flush()
	servers, err := startServers(ctx, &c, logger)
	if err != nil {
		return stopped(ctx, err)
	}
	defer func() {
		if ended := servers.stop(); err == nil {
			err = ended
		}
	}()
	if err := prepareDatabase(ctx, c, logger); err != nil {
		return stopped(ctx, err)
	}
	traces := findTraces(ctx, c.Jaeger.URL)
	return runApp(ctx, fx.New(devGraph(c, logger), traces.graph(logger), fx.Invoke(
		func(b background, api *httpapi.API, admin *httpapi.Admin, tracing *telemetry.Telemetry) {
			b.run("postgres", servers.watch)
			b.Lifecycle.Append(fx.StartHook(func() error {
				return introduce(p.stdout, c, servers, api.Addr(), admin.Addr(), traces.describe(tracing.Exporting(), c.Jaeger.URL), time.Since(began))
			}))
		})))
}

func devGraph(c config.Config, logger *slog.Logger) fx.Option {
	ids := make([]string, c.Dev.Subscribers)
	for i := range ids {
		ids[i] = fmt.Sprintf("subscriber-%d", i+1)
	}
	return fx.Options(
		foundation(c, serviceName, logger), serving(c), subscribers(ids...), administering(),
		fx.Decorate(func(checks []httpapi.Check, desk inbox.LetterDesk) []httpapi.Check {
			return append(checks, letterChecks(desk, ids...)...)
		}),
	)
}

// servers is what the command started for itself; nil where it was told of another.
type servers struct {
	postgres *embedded.Postgres
	nats     *embedded.NATS
}

// startServers starts what c does not name, and puts it there.
func startServers(ctx context.Context, c *config.Config, logger *slog.Logger) (*servers, error) {
	s := &servers{}
	folder, err := filepath.Abs(c.Dev.DataDir)
	if err != nil {
		return nil, err
	}
	if !c.Given(config.DatabaseURL) {
		s.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{
			DataDir: filepath.Join(folder, "postgres"), Fresh: c.Dev.Fresh, Home: c.Dev.PostgresHome, Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		c.Database.URL = config.URL(s.postgres.URL())
	}
	if !c.Given(config.NATSURL) {
		s.nats, err = embedded.StartNATS(embedded.NATSOptions{
			StoreDir: filepath.Join(folder, "nats"), Logger: logger,
		})
		if err != nil {
			_ = s.stop() // the first error is the one to tell
			return nil, err
		}
		c.NATS.URL = config.URL(s.nats.URL())
	}
	return s, nil
}

func (s *servers) stop() error {
	if s.nats != nil {
		s.nats.Stop()
	}
	if s.postgres != nil {
		return s.postgres.Stop()
	}
	return nil
}

// watch ends with ctx, or with an error when Postgres dies.
func (s *servers) watch(ctx context.Context) error {
	var died <-chan struct{}
	if s.postgres != nil {
		died = s.postgres.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-died:
		return fmt.Errorf("the Postgres in %s stopped", s.postgres.DataDir())
	}
}

// introduce tells a newcomer what runs, where, and what to try.
func introduce(out io.Writer, c config.Config, s *servers, api, admin, traces string, took time.Duration) error {
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

Ctrl-C stops everything.

`, release(), took.Seconds(), api, admin, database, c.Database.URL, broker, c.NATS.URL, c.Stream.Name, c.Dev.Subscribers,
		traces, api, joinURL(c, s), string(c.NATS.URL), os.Args[0])
	return err
}

// joinURL shows the password only of the server that this process started on loopback for itself.
func joinURL(c config.Config, s *servers) string {
	if s.postgres != nil {
		return string(c.Database.URL)
	}
	return c.Database.URL.String()
}
