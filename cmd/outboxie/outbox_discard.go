package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func (p *program) outboxDiscardCommand() *cobra.Command {
	position, chosen := int64(0), choice{}
	cmd := &cobra.Command{
		Use:   "discard (--position N | --all | [--group GROUP] [--type TYPE] [--aggregate TYPE/ID]) [--yes]",
		Short: "Discard parked events for ever",
		Long: "Discard a parked event: it never reaches the stream. The later events of its aggregate stay parked until they are\n" +
			"redriven. --group, --type, --aggregate and --all choose among the first parked events of all aggregates. Shows what it\n" +
			"would do; --yes does it. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if position < 0 || !exactlyOne(position > 0, chosen.all, chosen.some()) {
				return errUsage.With("name the event to discard: --position N; or the events: --all, or some of --group, --type and --aggregate; " +
					"`outboxie outbox parked` lists the parked events")
			}
			return p.withOutbox(cmd, func(ctx context.Context, ports outboxPorts) error {
				if position > 0 {
					return withParkedHint(p.discard(ctx, ports, outbox.Position(position), chosen))
				}
				parked := operating.UndecidedParked(ports)
				return p.decide(ctx, chosen, parked, decision{
					thing: wording.ParkedEvent, groups: parkedGroups, change: parked.Discard, final: true, done: func(n int) string {
						return wording.DiscardParkedDone(n) + ": " + parkedGroups + "\n"
					},
				})
			})
		},
	}
	cmd.Flags().Int64Var(&position, "position", 0, "the event's `position` in the log")
	chosen.addFlags(cmd.Flags(), "the first parked event of every aggregate")
	return cmd
}

// discard gives up the event at a position. If the log still has the event, discard prints the event first.
func (p *program) discard(ctx context.Context, ports outboxPorts, position outbox.Position, c choice) error {
	found, err := ports.List(ctx, operations.EventFilter{Position: position, Limit: 1})
	if err != nil {
		return err
	}
	switch {
	case len(found) == 1 && found[0].State == string(relay.Parked):
		if c.asJSON {
			break
		}
		if _, err := fmt.Fprint(p.stdout, wording.DescribeParked(found[0])); err != nil {
			return err
		}
	case len(found) == 1:
		return relay.ErrNotParked.With("the event at position %d is %s, not %s", position, found[0].State, relay.Parked)
	case !c.yes:
		return relay.ErrNotParked.With("the log has no event at position %d", position)
	}
	if !c.yes {
		return errUnconfirmed
	}
	if err := ports.Discard(ctx, position); err != nil {
		return err
	}
	if c.asJSON {
		return printJSON(p.stdout, httpapi.Decision{Chosen: 1, Changed: 1})
	}
	_, err = fmt.Fprintf(p.stdout, "\nDone. The event at position %d is discarded.\n", position)
	return err
}
