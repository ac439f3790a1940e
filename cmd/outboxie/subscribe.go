package main

import (
	"cmp"

	"github.com/spf13/cobra"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
)

func (p *program) subscribeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "subscribe --id NAME",
		Short: "Run a subscriber",
		Long: "Run a subscriber: it gets every event, in order, and applies each one once. Copies with the same id share the work;\n" +
			"every other id gets every event too. --handler says what is done with the events, and is kept when the subscriber begins.\n" +
			"Needs DATABASE_URL. It shows health and metrics only if ADMIN_ADDR is given.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, err := p.configure(cmd, config.DatabaseURL, config.SubscriberID)
			if err != nil {
				return err
			}
			logger, flush, err := p.serviceLogger(cmd.Context(), c, subscriberServiceName(c))
			if err != nil {
				return err
			}
			defer flush()
			listeners, err := bind(cmd.Context(), c, false, c.Given(config.AdminAddr))
			if err != nil {
				return err
			}
			defer func() { err = cmp.Or(err, listeners.close()) }()
			if err := engine.Prepare(cmd.Context(), c, logger); err != nil {
				return stopped(cmd.Context(), err)
			}
			return runApp(cmd.Context(), fx.New(subscribeGraph(c, logger), fx.Supply(listeners)))
		},
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID, config.Handler, config.AdminAddr)
	return cmd
}
