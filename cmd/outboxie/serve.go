package main

import (
	"cmp"

	"github.com/spf13/cobra"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
)

func (p *program) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run an instance: the API and the relay",
		Long: "Run an instance: the API, and a relay that takes part in the election of the one that publishes.\n" +
			"Run as many as you like against one Postgres and one NATS. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := p.configure(cmd, config.DatabaseURL)
			if err != nil {
				return err
			}
			if c.Roles.API {
				if err := c.CheckAccess(); err != nil {
					return err
				}
			}
			logger, flush, err := p.serviceLogger(cmd.Context(), c, serviceName)
			if err != nil {
				return err
			}
			defer flush()
			listeners, err := bind(cmd.Context(), c, c.Roles.API, true)
			if err != nil {
				return err
			}
			defer func() { err = cmp.Or(err, listeners.close()) }()
			if err := engine.Prepare(cmd.Context(), c, logger, serveTables(c)...); err != nil {
				return stopped(cmd.Context(), err)
			}
			return runApp(cmd.Context(), fx.New(serveGraph(c, logger), fx.Supply(listeners)))
		},
	}
	config.AddFlags(cmd.Flags(), config.RolesList, config.HTTPAddr, config.AdminAddr)
	return cmd
}
