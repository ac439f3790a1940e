package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func (p *program) subscriberRetryCommand() *cobra.Command {
	event, all := "", false
	cmd := &cobra.Command{
		Use:   "retry --id NAME (--event ID | --all)",
		Short: "Have a subscriber try its dead letters again",
		Long: "Mark a dead letter, or all of them, to be tried again. The running subscriber does so within a second or so, and goes on\n" +
			"with what waits behind, in order. What is applied takes effect once. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (event != "") == all {
				return errUsage.With("say which event to retry: either --event ID or --all")
			}
			return p.atDesk(cmd, func(ctx context.Context, desk inbox.DeadLetterAdmin, id string) error {
				if all {
					retried, err := desk.RetryAll(ctx, id)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintf(p.stdout, "Subscriber %s retries %d dead letters when it runs.\n", id, retried)
					return err
				}
				if err := desk.Retry(ctx, id, event); err != nil {
					return hint(err, id)
				}
				_, err := fmt.Fprintf(p.stdout, "Subscriber %s retries event %s when it runs.\n", id, console.Text(event))
				return err
			})
		},
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID)
	cmd.Flags().StringVar(&event, "event", "", "the event's `ID`")
	cmd.Flags().BoolVar(&all, "all", false, "everything that is dead and can be read")
	return cmd
}
