package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) subscriberRetryCommand() *cobra.Command {
	event, chosen := "", choice{}
	cmd := &cobra.Command{
		Use:   "retry --id NAME (--event ID | --all | [--group GROUP] [--type TYPE] [--aggregate TYPE/ID] [--yes])",
		Short: "Let a subscriber try its dead letters again",
		Long: "Mark a dead letter, those of a group, a type or an aggregate, or all of them, to be tried again. The running subscriber does\n" +
			"so within a second or so, and goes on with what waits behind, in order. What is applied takes effect once. What is chosen by\n" +
			"--group, --type and --aggregate is counted first; more than one letter needs --yes. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if exactlyOne(event != "", chosen.all, chosen.some()) {
				return p.withDeadLetters(cmd, func(ctx context.Context, admin operations.DeadLetterAdmin, id string) error {
					if event != "" {
						return p.retryOne(ctx, admin, id, event, chosen.asJSON)
					}
					letters := operating.UndecidedDeadLetters(admin, id)
					chosen.yes = chosen.yes || chosen.all
					return p.decide(ctx, chosen, letters, decision{
						thing: wording.DeadLetter, groups: engine.LetterCommand("dead", id, "") + " --groups", change: letters.Retry, readable: true, done: func(n int) string {
							return wording.RetryLettersDone(id, n) + "\n"
						},
					})
				})
			}
			return errUsage.With("name what to retry: either --event ID or --all, or some of --group, --type and --aggregate")
		},
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID)
	cmd.Flags().StringVar(&event, "event", "", "the event's `ID`")
	chosen.addFlags(cmd.Flags(), "everything that is dead and can be read")
	return cmd
}

// retryOne retries one letter.
func (p *program) retryOne(ctx context.Context, admin operations.DeadLetterAdmin, id, event string, asJSON bool) error {
	letter, err := admin.Letter(ctx, id, event)
	if err == nil {
		err = admin.Retry(ctx, id, event)
	}
	if err != nil {
		return withListHint(err, id)
	}
	if asJSON {
		return printJSON(p.stdout, httpapi.Decision{Chosen: 1, Behind: letter.Behind, Changed: 1})
	}
	_, err = fmt.Fprintln(p.stdout, wording.RetryLetterDone(id, event))
	return err
}

// exactlyOne reports whether one of the conditions is true, and no other.
func exactlyOne(conditions ...bool) bool {
	n := 0
	for _, condition := range conditions {
		if condition {
			n++
		}
	}
	return n == 1
}
