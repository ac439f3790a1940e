package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) subscriberCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "subscriber",
		Short: "Show and operate subscribers, and decide about the events that they could not handle",
		Long: "Show the state of subscribers. Pause them, move them in the stream, change their lanes, end them. List their dead letters:\n" +
			"the events that failed too often, and those that wait behind them. All commands need DATABASE_URL; rewind, skip and lanes\n" +
			"also need NATS_URL. Subscribers may be running.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s needs status, pause, resume, rewind, skip, lanes, ignore, forget, dead, retry or discard", cmd.CommandPath())
		},
	}
	cmd.AddCommand(p.subscriberDeadCommand(), p.subscriberRetryCommand(), p.subscriberDiscardCommand())
	cmd.AddCommand(p.subscriberStatusCommand(), p.subscriberPauseCommand(), p.subscriberResumeCommand(), p.subscriberRewindCommand(),
		p.subscriberSkipCommand(), p.subscriberLanesCommand(), p.subscriberIgnoreCommand(), p.subscriberForgetCommand())
	return cmd
}

// errUsage reports a wrong command line.
var errUsage = fault.New(fault.Invalid, "usage", "the command line is incomplete")

// withDeadLetters runs work on the dead letters of the subscriber that the command names.
func (p *program) withDeadLetters(cmd *cobra.Command, work func(ctx context.Context, admin operations.DeadLetterAdmin, id string) error) error {
	c, err := p.configure(cmd, config.DatabaseURL, config.SubscriberID)
	if err != nil {
		return err
	}
	return engine.WithDatabase(c, func(db *bun.DB) error {
		admin := postgres.NewInbox(db, postgres.InboxOptions{})
		known, err := admin.Subscribers(cmd.Context())
		if err != nil {
			return fmt.Errorf("look for the dead letters: %w", err)
		}
		if !slices.Contains(known, c.Subscriber.ID) {
			return unknownSubscriber(c.Subscriber.ID, known)
		}
		return work(cmd.Context(), admin, c.Subscriber.ID)
	})
}

func unknownSubscriber(id string, known []string) error {
	others := "no subscriber has received one yet"
	if len(known) > 0 {
		shown := make([]string, len(known))
		for i, name := range known {
			shown[i] = printable.Text(name)
		}
		others = "known subscribers: " + strings.Join(shown, ", ")
	}
	return fault.New(fault.NotFound, "no_such_subscriber", "no subscriber %q has received an event here; %s", id, others)
}

// withListHint adds to a not-found error the command that lists the dead letters.
func withListHint(err error, id string) error {
	if fault.KindOf(err) == fault.NotFound {
		return fmt.Errorf("%w; `%s` lists them", err, engine.LetterCommand("dead", id, ""))
	}
	return err
}
