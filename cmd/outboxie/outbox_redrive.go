package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func (p *program) outboxRedriveCommand() *cobra.Command {
	chosen := choice{}
	cmd := &cobra.Command{
		Use:   "redrive (--aggregate TYPE/ID | --all | [--group GROUP] [--type TYPE] [--aggregate TYPE/ID] [--yes])",
		Short: "Publish parked events after all",
		Long: "Mark the parked events of an aggregate, or all of them, to be published after all, in order. The leader does so within a\n" +
			"second; an event that the broker still cannot take is parked again. --group and --type choose by the first parked event of\n" +
			"each aggregate. The chosen events are counted first; more than one needs --yes. The events behind them are redriven too.\n" +
			"Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if chosen.some() == chosen.all {
				return errUsage.With("name what to redrive: either --aggregate TYPE/ID (or an order's ID) or --all, or some of --group, --type and --aggregate")
			}
			if _, err := chosen.read(); err != nil {
				return err
			}
			return p.withOutbox(cmd, func(ctx context.Context, ports outboxPorts) error {
				if chosen.group == "" && chosen.eventType == "" {
					return p.redriveEvents(ctx, ports, chosen)
				}
				parked := operating.UndecidedParked(ports)
				return p.decide(ctx, chosen, parked, decision{thing: wording.ParkedEvent, groups: parkedGroups, change: parked.Retry, done: func(n int) string {
					return wording.RedriveChosenDone(n) + ": outboxie outbox parked\n"
				}})
			})
		},
	}
	chosen.addFlags(cmd.Flags(), "everything that is parked")
	return cmd
}

// redriveEvents redrives all parked events of an aggregate, or of all.
func (p *program) redriveEvents(ctx context.Context, ports outboxPorts, c choice) error {
	var key *outbox.Key
	if !c.all {
		chosen, err := c.read()
		if err != nil {
			return err
		}
		key = &chosen.Aggregate
	}
	count, err := ports.Redrive(ctx, key)
	switch {
	case err != nil:
		return withParkedHint(err)
	case c.asJSON:
		return printJSON(p.stdout, httpapi.Decision{Chosen: count, Changed: count})
	case count == 0:
		_, err = fmt.Fprintln(p.stdout, wording.NothingParked)
	default:
		_, err = fmt.Fprintln(p.stdout, wording.RedriveDone(count)+": outboxie outbox parked")
	}
	return err
}

// withParkedHint adds to ErrNotParked the command that lists the parked events.
func withParkedHint(err error) error {
	if errors.Is(err, relay.ErrNotParked) {
		return fmt.Errorf("%w; `outboxie outbox parked` lists the parked events", err)
	}
	return err
}
