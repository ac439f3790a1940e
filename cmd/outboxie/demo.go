package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/embedded"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/demo"
)

func (p *program) demoCommand() *cobra.Command {
	port, stay := 0, false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See delivery, fail-over and fan-out with your own eyes, and have them checked",
		Long: "Start three instances and three subscribers, place orders, kill the leader twice, and have a checker read the stream:\n" +
			"nothing lost, nothing doubled, nothing reordered. All of it are processes of this program, on a Postgres and a NATS\n" +
			"that are started for it, with data in a temporary folder. In the end everything is stopped and removed.\n" +
			"Exit code 1 if a step fails; the message says which.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			if port < 0 || port > 65533 {
				return errUsage.With("--port %d must be from 1 to 65533, or 0 for any free ones", port)
			}
			fleet, err := demo.NewProcesses(p.environment, port, &demoServers{postgresHome: c.Dev.PostgresHome})
			if err != nil {
				return err
			}
			return demo.Run(cmd.Context(), fleet, p.stdout, stay)
		},
	}
	cmd.Flags().IntVar(&port, "port", port, "of app1; app2 and app3 have the two that follow it; 0: free ones")
	cmd.Flags().BoolVar(&stay, "stay", stay, "leave everything running in the end, until Ctrl-C")
	return cmd
}

// demoServers is the embedded Postgres and NATS of a demo.
type demoServers struct {
	servers
	postgresHome string
}

var _ demo.Servers = (*demoServers)(nil)

// Start implements demo.Servers.
func (s *demoServers) Start(ctx context.Context, folder string, note demo.Note) (string, error) {
	logger := telemetry.NewLogger(noteWriter{note}, slog.LevelInfo, "text") // what is downloaded, for example
	var err error
	s.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{
		DataDir: filepath.Join(folder, "postgres"), Temporary: true, Home: s.postgresHome, Logger: logger,
	})
	if err != nil {
		return "", err
	}
	s.nats, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: filepath.Join(folder, "nats"), Logger: logger})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Postgres %s from %s, NATS in this process", s.postgres.Version(), s.postgres.Home()), nil
}

// Stop implements demo.Servers.
func (s *demoServers) Stop() error { return s.stop() }

// DatabaseURL implements demo.Servers.
func (s *demoServers) DatabaseURL() string { return s.postgres.URL() }

// BrokerURL implements demo.Servers.
func (s *demoServers) BrokerURL() string { return s.nats.URL() }

// noteWriter shows log lines while they are of interest.
type noteWriter struct{ note demo.Note }

// Write notes a line.
func (w noteWriter) Write(line []byte) (int, error) {
	w.note("%s", strings.TrimSpace(string(line)))
	return len(line), nil
}

var _ io.Writer = noteWriter{}
