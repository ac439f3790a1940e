package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/playground/demo"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
)

func (p *playground) demoCommand() *cobra.Command {
	docker, port, stay := false, 0, false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See delivery, fail-over and fan-out with your own eyes, and have them checked",
		Long: "Start three instances and three subscribers, place orders, kill the leader twice, and have a checker read the stream:\n" +
			"nothing lost, nothing doubled, nothing reordered. They are processes, on a Postgres and a NATS that\n" +
			"are started for them, with data in a temporary folder; with --docker they are containers, and so is a Jaeger. In the\n" +
			"end everything is stopped and removed. Exit code 1 if a step fails; the message says which.",
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
			var fleet demo.Fleet
			switch {
			case docker && cmd.Flags().Changed("port"):
				return errUsage.With("--port is for processes; containers have the ports of %s", demo.ComposeFile)
			case docker:
				if fleet, err = demo.NewContainers(p.program, p.environment, version); err != nil {
					return errUsage.With("%v", err)
				}
			case port < 0 || port > 65533:
				return errUsage.With("--port %d must be from 1 to 65533, or 0 for any free ones", port)
			default:
				fleet = demo.NewProcesses(p.program, p.environment, port, &demoServers{postgresHome: c.Playground.PostgresHome})
			}
			return demo.Run(cmd.Context(), fleet, p.terminal, stay)
		},
	}
	cmd.Flags().BoolVar(&docker, "docker", docker, "run containers, not processes; needs a Docker engine, and the repository")
	cmd.Flags().IntVar(&port, "port", port, "`port` of app1; app2 and app3 get the next two ports; 0 picks free ports")
	cmd.Flags().BoolVar(&stay, "stay", stay, "leave everything running in the end, until Ctrl-C")
	return cmd
}

// demoServers is the embedded Postgres and NATS of a demo.
type demoServers struct {
	servers
	postgresHome string
}

var _ demo.Servers = (*demoServers)(nil)

// Start starts a Postgres with temporary data, and a NATS. It returns a description of both.
func (s *demoServers) Start(ctx context.Context, folder string, note demo.Note) (string, error) {
	logger := telemetry.NewLogger(note, slog.LevelInfo, "text") // logs, for example, which Postgres is downloaded
	var err error
	s.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{
		DataDir: embedded.PostgresFolder(folder), Temporary: true, Home: s.postgresHome, Logger: logger,
	})
	if err != nil {
		return "", err
	}
	s.nats, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: embedded.NATSFolder(folder), Logger: logger})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Postgres %s from %s, NATS in this process\n%s\n%s",
		s.postgres.Version(), s.postgres.Home(), s.DatabaseURL(), s.BrokerURL()), nil
}

// Stop stops the servers that Start has started.
func (s *demoServers) Stop() error { return s.stop() }

// DatabaseURL returns the URL of the Postgres, with its password.
func (s *demoServers) DatabaseURL() string { return s.postgres.URL() }

// BrokerURL returns the URL of the NATS.
func (s *demoServers) BrokerURL() string { return s.nats.URL() }
