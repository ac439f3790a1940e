package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/config"
)

func (p *playground) infraCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "infra",
		Short: "Run a Postgres and a NATS for other processes",
		Long: "Run a real Postgres and a real NATS for instances and subscribers that are processes of their own. Data is kept in\n" +
			"--data-dir between runs; --fresh deletes that of both.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			return p.infra(cmd.Context(), c)
		},
	}
	config.AddFlags(cmd.Flags(), config.DataDir, config.PostgresPort, config.NATSPort, config.Fresh)
	return cmd
}

func (p *playground) infra(ctx context.Context, c config.Config) (err error) {
	began := time.Now()
	logger, servers := p.logger(c), &servers{}
	defer func() { err = cmp.Or(err, servers.stop()) }()
	if err := servers.start(ctx, &c, logger); err != nil {
		return stopped(ctx, err)
	}
	_, err = fmt.Fprintf(p.stdout, `
Postgres and NATS are ready after %.1f s; their data is in %s.

  export DATABASE_URL='%s' NATS_URL='%s'

Ctrl-C stops them.

`, time.Since(began).Seconds(), c.Playground.DataDir, servers.databaseURL(c), servers.brokerURL(c))
	if err != nil {
		return err
	}
	return servers.watch(ctx)
}
