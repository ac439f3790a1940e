package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func (p *program) outboxParkedCommand() *cobra.Command {
	limit, asJSON, grouped := 0, false, false
	cmd := &cobra.Command{
		Use:   "parked [--groups]",
		Short: "List the events that cannot be published, and those that wait behind them",
		Long: "List the events that the broker can never take, and the later ones of the same aggregates, which wait behind them. All\n" +
			"other aggregates are still published. --groups counts the aggregates that wait by reason, without the parts that differ from\n" +
			"event to event. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			return p.withOutbox(cmd, func(ctx context.Context, ports outboxPorts) error {
				if grouped {
					return p.groupParked(ctx, ports, asJSON)
				}
				events, err := ports.Waiting(ctx, limit)
				if err != nil {
					return err
				}
				status, err := ports.Status(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(p.stdout, httpapi.ShowParked(events, status))
				}
				return printParked(p.stdout, events, status.ParkedEvents, status.ParkedAggregates, status.Now)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	cmd.Flags().BoolVar(&grouped, "groups", false, "count the aggregates by the reason of their first parked event")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// parkedGroups is the command that shows the groups of the parking lot.
const parkedGroups = "outboxie outbox parked --groups"

// groupParked prints the groups of the parking lot.
func (p *program) groupParked(ctx context.Context, ports outboxPorts, asJSON bool) error {
	groups, err := operating.UndecidedParked(ports).Groups(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(p.stdout, httpapi.ShowGroups(groups))
	}
	status, err := ports.Status(ctx)
	if err != nil {
		return err
	}
	return printGroups(p.stdout, groups, status.Now, wording.NothingParked,
		`Publish a group after all, once its cause is gone:  outboxie outbox redrive --group GROUP
Discard a group for ever, then redrive the others:  outboxie outbox discard --group GROUP`)
}

func printParked(out io.Writer, events []relay.ParkedEvent, all, aggregates int64, now time.Time) error {
	if len(events) == 0 {
		_, err := fmt.Fprintln(out, wording.NothingParked)
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POSITION\tPARKED\tSTATE\tTYPE\tAGGREGATE\tEVENT\tREASON")
	for _, e := range events {
		fmt.Fprintf(table, "%d\t%s ago\t%s\t%s\t%s\t%s\t%s\n", e.Position, wording.Age(now.Sub(e.ParkedAt)), e.State, printable.Text(e.Type),
			printable.Text(e.Key.String()), printable.Text(e.EventID), printable.Line(e.Reason))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	shown := ""
	if more := all - int64(len(events)); more > 0 {
		shown = fmt.Sprintf(" Not shown: %d (--limit).", more)
	}
	_, err := fmt.Fprintf(out, `
%s%s
Publish them after all, once the cause is gone:  outboxie outbox redrive --aggregate TYPE/ID  (or --all)
Discard one for ever, then redrive the others:   outboxie outbox discard --position N
`, wording.ParkedTotal(all, aggregates), shown)
	return err
}
