package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/config"
)

func (p *program) infraCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "infra",
		Short: "Run a Postgres and a NATS for other processes",
		Long: "Run a real Postgres and a real NATS for instances and subscribers that are processes of their own. Data is kept in\n" +
			"--data-dir between runs.",
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

func (p *program) infra(ctx context.Context, c config.Config) (err error) {
	began := time.Now()
	logger, servers := p.logger(c), &servers{}
	defer func() { err = cmp.Or(err, servers.stop()) }()
	if err = servers.startPostgres(ctx, &c, logger); err == nil {
		err = servers.startNATS(&c, logger)
	}
	if err != nil {
		return stopped(ctx, err)
	}
	_, err = fmt.Fprintf(p.stdout, `
Postgres and NATS are ready after %.1f s; their data is in %s.

  export DATABASE_URL='%s' NATS_URL='%s'

Ctrl-C stops them.

`, time.Since(began).Seconds(), c.Dev.DataDir, string(c.Database.URL), string(c.NATS.URL))
	if err != nil {
		return err
	}
	return servers.watch(ctx)
}
