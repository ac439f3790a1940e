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
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) subscriberDiscardCommand() *cobra.Command {
	event, chosen := "", choice{}
	cmd := &cobra.Command{
		Use:   "discard --id NAME (--event ID | --all | [--group GROUP] [--type TYPE] [--aggregate TYPE/ID]) --yes",
		Short: "Discard dead letters: their events never take effect for this subscriber",
		Long: "Discard a dead letter, those of a group, a type or an aggregate, or all of them. Their events never take effect for this\n" +
			"subscriber, however often they come again, and what waits behind them goes on. Their rows stay in dead_letters as discarded.\n" +
			"Shows what it would do; --yes does it. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !exactlyOne(event != "", chosen.all, chosen.some()) {
				return errUsage.With("name the event to discard: --event ID; or the events: --all, or some of --group, --type and --aggregate")
			}
			return p.withDeadLetters(cmd, func(ctx context.Context, admin operations.DeadLetterAdmin, id string) error {
				if event != "" {
					return p.discardOne(ctx, admin, id, event, chosen)
				}
				letters := operating.UndecidedDeadLetters(admin, id)
				return p.decide(ctx, chosen, letters, decision{
					thing: wording.DeadLetter, groups: engine.LetterCommand("dead", id, "") + " --groups", change: letters.Discard, final: true, done: func(n int) string {
						return wording.DiscardLettersDone(id, n) + "\n"
					},
				})
			})
		},
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID)
	cmd.Flags().StringVar(&event, "event", "", "the event's `ID`")
	chosen.addFlags(cmd.Flags(), "everything that is dead")
	return cmd
}

// discardOne discards one letter.
func (p *program) discardOne(ctx context.Context, admin operations.DeadLetterAdmin, id, event string, c choice) error {
	letter, err := admin.Letter(ctx, id, event)
	if err != nil {
		return withListHint(err, id)
	}
	if !c.yes && letter.State != inbox.Discarded {
		return errUsage.With("%s; repeat the command with --yes", wording.DiscardLetterPlan(id, letter))
	}
	if err := admin.Discard(ctx, id, event); err != nil {
		return withListHint(err, id)
	}
	if c.asJSON {
		return printJSON(p.stdout, httpapi.Decision{Chosen: 1, Behind: letter.Behind, Changed: 1})
	}
	_, err = fmt.Fprintln(p.stdout, wording.DiscardLetterDone(id, letter))
	return err
}
