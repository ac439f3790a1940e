package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func (p *program) subscriberDiscardCommand() *cobra.Command {
	event, yes := "", false
	cmd := &cobra.Command{
		Use:   "discard --id NAME --event ID --yes",
		Short: "Give a dead letter up: the event never takes effect for this subscriber",
		Long: "Give a dead letter up. The event never takes effect for this subscriber, however often it comes again, and what waits\n" +
			"behind it goes on. Its row stays in dead_letters as discarded. Needs DATABASE_URL, and --yes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if event == "" {
				return errUsage.With("say which event to discard: --event ID")
			}
			return p.atDesk(cmd, func(ctx context.Context, desk inbox.DeadLetterAdmin, id string) error {
				letter, err := desk.Letter(ctx, id, event)
				if err != nil {
					return hint(err, id)
				}
				if !yes && letter.State != inbox.Discarded {
					return errUsage.With("this would discard, for subscriber %s and for ever, %s; say --yes to do it", id, described(letter))
				}
				if err := desk.Discard(ctx, id, event); err != nil {
					return hint(err, id)
				}
				_, err = fmt.Fprintf(p.stdout, "Discarded for subscriber %s: %s.\n", id, described(letter))
				return err
			})
		},
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID)
	cmd.Flags().StringVar(&event, "event", "", "the event's `ID`")
	cmd.Flags().BoolVar(&yes, "yes", false, "really do it")
	return cmd
}

func described(letter inbox.Letter) string {
	if !letter.Readable() {
		return fmt.Sprintf("message %s on %s (%s), which is no event and behind which nothing waits",
			console.Text(letter.ID), console.Text(letter.Subject), firstLine(letter.Error))
	}
	state := console.Text(string(letter.State))
	if letter.Error != "" {
		state += ": " + firstLine(letter.Error)
	}
	return fmt.Sprintf("event %s (%s, version %d of %s, %s), behind which %d events wait",
		console.Text(letter.ID), console.Text(letter.Type), letter.Version, console.Text(letter.Key.String()), state, letter.Behind)
}
