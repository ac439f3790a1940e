package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

func (p *playground) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run everything: Postgres, NATS, an instance of the service, subscribers",
		Long: "Run everything: a real Postgres and a real NATS in this process (unless DATABASE_URL or NATS_URL says where others are), and an\n" +
			"instance of the service and subscribers as processes of their own. Data is kept in --data-dir between runs; --fresh deletes that of both.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			version, err := p.find(cmd.Context())
			if err != nil {
				return err
			}
			return stopped(cmd.Context(), p.run(cmd.Context(), c, version))
		},
	}
	config.AddFlags(cmd.Flags(), config.HTTPAddr, config.AdminAddr, config.DataDir, config.PostgresPort, config.NATSPort,
		config.Fresh, config.Subscribers, config.PlaygroundAuth, config.JaegerURL)
	return cmd
}

func (p *playground) run(ctx context.Context, c config.Config, version string) (err error) {
	began := time.Now()
	addresses, err := choose(ctx, c)
	if err != nil {
		return err
	}
	servers := &servers{}
	defer func() { err = cmp.Or(err, servers.stop()) }()
	if err := servers.startMissing(ctx, &c, p.logger(c)); err != nil {
		return err
	}
	traces := findTraces(ctx, c.Jaeger.URL)
	environment := slices.Concat(p.environment, traces.environment(), []string{
		"DATABASE_URL=" + string(c.Database.URL), "NATS_URL=" + string(c.NATS.URL), "OUTBOXIE_DATA_DIR=" + c.Playground.DataDir,
	})
	access, err := p.prepareAccess(ctx, c)
	if err != nil {
		return err
	}
	environment = append(environment, access...)
	all := members(addresses)
	defer stop(all)
	for _, m := range all {
		if err := p.start(ctx, m, environment); err != nil {
			return err
		}
	}
	if err := p.introduce(c, servers, addresses, traces, version, time.Since(began)); err != nil {
		return err
	}
	return p.watch(ctx, servers, all)
}

// member is a process of the service.
type member struct {
	name     string
	args     []string
	admin    string             // the address of its admin listener
	optional bool               // the other members go on without it
	process  *processes.Process // nil: not started
}

func members(a addresses) []*member {
	all := []*member{{name: "the instance", args: []string{"serve", "--http-addr", a.api, "--admin-addr", a.admin}, admin: a.admin}}
	for i, admin := range a.subscribers {
		id := fmt.Sprintf("subscriber-%d", i+1)
		all = append(all, &member{
			name: id, args: []string{"subscribe", "--id", id, "--admin-addr", admin}, admin: admin, optional: true,
		})
	}
	return all
}

// start starts a member, and waits until it serves.
func (p *playground) start(ctx context.Context, m *member, environment []string) (err error) {
	m.process, err = processes.Start(processes.Options{
		Name: m.name, Program: p.program, Args: m.args, Environment: environment, Out: p.terminal,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	return processes.Await(ctx, 10*time.Millisecond, func() (bool, error) {
		failed := m.process.Failure()
		if failed != nil && m.optional {
			return true, nil // watch reports it
		}
		return processes.IsServing(ctx, m.admin), failed
	})
}

// stop asks all started members to end, at the same time, and waits for them.
func stop(members []*member) {
	var started []*processes.Process
	for _, m := range members {
		if m.process != nil {
			started = append(started, m.process)
		}
	}
	processes.Stop(started...)
}

// watch returns when ctx ends. If a server or process that the others need ends by itself, watch returns
// an error.
func (p *playground) watch(ctx context.Context, servers *servers, members []*member) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return servers.watch(ctx) })
	for _, m := range members {
		group.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-m.process.Ended():
			}
			failed := m.process.Failure()
			if failed != nil && m.optional {
				_, err := fmt.Fprintf(p.stdout, "\n%v. Everything else goes on.\n\n", failed)
				return err
			}
			return failed
		})
	}
	return group.Wait()
}

// addresses are where the processes listen.
type addresses struct {
	api, admin  string
	subscribers []string // their admin listeners
}

// choose returns addresses for all processes. Port 0 becomes a free port. The subscribers get the ports after the port of the instance's
// admin listener. choose returns an error if a port is taken; nothing has started yet.
func choose(ctx context.Context, c config.Config) (a addresses, err error) {
	if a.api, err = fixed(ctx, c.HTTP.Addr); err != nil {
		return a, err
	}
	if a.admin, err = fixed(ctx, c.HTTP.AdminAddr); err != nil {
		return a, err
	}
	host, port, err := net.SplitHostPort(c.HTTP.AdminAddr)
	if err != nil {
		return a, err
	}
	first, err := strconv.Atoi(port)
	if err != nil {
		return a, err
	}
	for i := range c.Playground.Subscribers {
		port := 0
		if first > 0 {
			port = first + 1 + i
		}
		address, err := fixed(ctx, net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return a, err
		}
		a.subscribers = append(a.subscribers, address)
	}
	return a, nil
}

// fixed returns the address with a free port in the place of port 0. It fails if the port is taken.
func fixed(ctx context.Context, address string) (string, error) {
	free, err := processes.FreeAddress(ctx, address)
	if err != nil {
		return "", fmt.Errorf("cannot listen on %s: %w: stop what listens there, or choose another address with --http-addr and --admin-addr; "+
			"port 0 picks a free one", address, err)
	}
	return free, nil
}

// introduce prints, for a newcomer, what runs, where it listens, and what to try.
func (p *playground) introduce(c config.Config, s *servers, a addresses, t traces, version string, took time.Duration) error {
	database, broker := "given by DATABASE_URL", "given by NATS_URL"
	if s.postgres != nil {
		database = fmt.Sprintf("Postgres %s from %s, data in %s", s.postgres.Version(), s.postgres.Home(), s.postgres.DataDir())
	}
	if s.nats != nil {
		broker = "NATS with JetStream, in this process"
	}
	subscribers := strconv.Itoa(len(a.subscribers))
	for _, admin := range a.subscribers {
		subscribers += "   http://" + admin + "/metrics"
	}
	_, err := fmt.Fprintf(p.stdout, `
Outboxie %s is ready after %.1f s.

  console      http://%s/console
  docs         http://%s/docs
  API          http://%s/orders
  access       %s
  health       http://%s/readyz
  metrics      http://%s/metrics
  admin token  %s
  database     %s
               %s
  broker       %s
               %s   stream %s
  subscribers  %s
  traces       %s

Open the console, sign in with the admin token, place an order, and see it delivered. Or place it here:

  curl -i -X POST http://%s/orders -H "Content-Type: application/json"%s \
       -d '{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 100.50}'

Join with another instance:

  DATABASE_URL='%s' NATS_URL='%s' HTTP_ADDR=127.0.0.1:0 ADMIN_ADDR=127.0.0.1:0 %s serve

or, with the same DATABASE_URL and NATS_URL, with a subscriber that answers paid orders with events of its own:

  %s subscribe --id parcels --handler fulfillment

Ctrl-C stops everything.

`, version, took.Seconds(), a.admin, a.api, a.api, p.describeAccess(c), a.admin, a.admin, describeToken(c, p.terminal), database, c.Database.URL, broker, c.NATS.URL, c.Stream.Name,
		subscribers, t.describe(), a.api, p.bearer(c), joinURL(c.Database.URL, s.postgres != nil), joinURL(c.NATS.URL, s.nats != nil), p.program, p.program)
	return err
}

// joinURL returns a URL as text. It shows the password only if this process started the server itself, on loopback.
func joinURL(url config.URL, own bool) string {
	if own {
		return string(url)
	}
	return url.String()
}

// describeToken says how to use the admin listeners. It shows the token itself only on a terminal, because a file would keep it for others.
func describeToken(c config.Config, out io.Writer) string {
	switch c.HTTP.AdminToken {
	case config.Off:
		return "none is asked for: ADMIN_TOKEN is off"
	case "":
	default:
		return "that of ADMIN_TOKEN"
	}
	file, err := filepath.Abs(c.TokenFile())
	if err != nil {
		file = c.TokenFile()
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return "none; the log says why"
	}
	if terminal, isFile := out.(*os.File); isFile && term.IsTerminal(int(terminal.Fd())) {
		return strings.TrimSpace(string(token)) + "\n               in " + file
	}
	return "in " + file
}
