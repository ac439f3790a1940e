package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/engine"
)

// errUnconfirmed ends a command that only showed what it would do.
var errUnconfirmed = fault.New(fault.Invalid, "unconfirmed", "nothing was done: repeat the command with --yes")

func (p *program) outboxAdoptCommand() *cobra.Command {
	var position int64
	var yes, repeats bool
	cmd := &cobra.Command{
		Use:   "adopt [--position N] [--accept-repeats] [--yes]",
		Short: "Repair a halted relay: accept the stream as it is, and go on after an event of the log",
		Long: "Repair a halted relay: accept stream and log as they are now, and go on after the last event that both hold, or after\n" +
			"--position. The position is written into the stream as a control message, where every relay looks first. If the sequence\n" +
			"of the outbox went back, events below the relay's position are moved to the end of the log. Shows what it would do;\n" +
			"--yes does it. Needs DATABASE_URL and NATS_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd, config.DatabaseURL)
			if err != nil {
				return err
			}
			var from *outbox.Position
			if cmd.Flags().Changed("position") {
				asked := outbox.Position(position)
				from = &asked
			}
			return p.adopt(cmd.Context(), c, adoptOptions{position: from, acceptRepeats: repeats, confirmed: yes})
		},
	}
	cmd.Flags().Int64Var(&position, "position", 0, "the last event that counts as published, instead of the one that is proposed")
	cmd.Flags().BoolVar(&repeats, "accept-repeats", false,
		"adopt a stream whose sequences are not above those of the former one; only after every instance has been stopped")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// adoptOptions are the options of an adoption.
type adoptOptions struct {
	position      *outbox.Position // nil: the plan decides
	acceptRepeats bool
	confirmed     bool
}

func (p *program) adopt(ctx context.Context, c config.Config, options adoptOptions) error {
	logger := p.logger(c)
	nc, err := jetstream.Connect(engine.Broker(c, logger))
	if err != nil {
		return err
	}
	defer nc.Close()
	publisher, err := jetstream.NewPublisher(nc, engine.Publisher(c, logger))
	if err != nil {
		return err
	}
	return engine.WithDatabase(c, func(db *bun.DB) error {
		adopter := operating.NewAdopter(postgres.NewRelayAdmin(db, c.Stream.Name, c.Stream.Name), publisher)
		plan, err := adopter.Plan(ctx, options.position)
		if err != nil {
			return engine.WithAdoptHint(err)
		}
		plan.AcceptRepeats = options.acceptRepeats
		if err := engine.DescribeAdoption(p.stdout, c.Stream.Name, plan); err != nil {
			return err
		}
		if !options.confirmed {
			return errUnconfirmed
		}
		if err := adopter.Do(ctx, plan); err != nil {
			return fmt.Errorf("adopt stream %s: %w", c.Stream.Name, engine.WithAdoptHint(err))
		}
		_, err = fmt.Fprintln(p.stdout, "\n"+wording.AdoptDone)
		return err
	})
}
