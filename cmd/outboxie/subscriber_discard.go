package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/config"
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
					thing: "dead letter", groups: letterCommand("dead", id, "") + " --groups", change: letters.Discard, final: true, done: func(n int) string {
						return fmt.Sprintf("Discarded for subscriber %s: %s.\n", id, wording.Counted(n, "dead letter"))
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
		return errUsage.With("this would discard, for subscriber %s and for ever, %s; repeat the command with --yes", id, described(letter))
	}
	if err := admin.Discard(ctx, id, event); err != nil {
		return withListHint(err, id)
	}
	if c.asJSON {
		return printJSON(p.stdout, httpapi.Decision{Chosen: 1, Behind: letter.Behind, Changed: 1})
	}
	_, err = fmt.Fprintf(p.stdout, "Discarded for subscriber %s: %s.\n", id, described(letter))
	return err
}

func described(letter inbox.Letter) string {
	if !letter.Readable() {
		return fmt.Sprintf("message %s on %s (%s), which is not an event; no event waits behind it",
			printable.Text(letter.ID), printable.Text(letter.Subject), firstLine(letter.Error))
	}
	state := printable.Text(string(letter.State))
	if letter.Error != "" {
		state += ": " + firstLine(letter.Error)
	}
	return fmt.Sprintf("event %s (%s, version %d of %s, %s), behind which %s",
		printable.Text(letter.ID), printable.Text(letter.Type), letter.Version, printable.Text(letter.Key.String()), state, waiting(letter.Behind))
}

// waiting returns how many events wait, as the end of a sentence.
func waiting(events int) string {
	if events == 1 {
		return "1 event waits"
	}
	return fmt.Sprintf("%d events wait", events)
}
