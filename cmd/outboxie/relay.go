package main

import (
	"cmp"

	"github.com/spf13/cobra"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/config"
)

func (p *program) relayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "relay [FILE ...]",
		Short: "Publish the outboxes of other services, one for each file of settings",
		Long: "Publish what services in any language insert into their table outbox. Each FILE has the settings of one relay, in lines\n" +
			"NAME=value: DATABASE_URL, STREAM_NAME, STREAM_SUBJECTS, EVENT_SOURCE, and what differs from the environment. The relay has\n" +
			"the name of the file. Without FILE there is one relay, with the settings of the environment. Run as many copies as you like.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, files []string) (err error) {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			relays, err := p.relays(cmd, c, files)
			if err != nil {
				return err
			}
			logger, flush, err := p.serviceLogger(cmd.Context(), c, relayServiceName)
			if err != nil {
				return err
			}
			defer flush()
			for _, relay := range relays {
				if relay.Exposed {
					logger.Warn("other users can read a file with a password: chmod o-r it", "relay", relay.Name, "file", relay.File)
				}
			}
			listeners, err := bind(cmd.Context(), c, false, true)
			if err != nil {
				return err
			}
			defer func() { err = cmp.Or(err, listeners.close()) }()
			return runApp(cmd.Context(), fx.New(relaysGraph(c, relays, logger), fx.Supply(listeners)))
		},
	}
	config.AddFlags(cmd.Flags(), config.AdminAddr)
	return cmd
}

// relays returns the configurations of the relays. All have the instance's name of the process.
func (p *program) relays(cmd *cobra.Command, c config.Config, files []string) ([]config.Relay, error) {
	common, err := p.variables(cmd)
	if err != nil {
		return nil, err
	}
	relays, err := config.Relays(common.Variables, files)
	for i := range relays {
		relays[i].Config.InstanceID = c.InstanceID
	}
	return relays, err
}
