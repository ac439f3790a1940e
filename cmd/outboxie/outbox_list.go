package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) outboxListCommand() *cobra.Command {
	var aggregate, since, state string
	filter, asJSON := operations.EventFilter{}, false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the newest events of the log with their states",
		Long: "List the newest events of the log with their states: unpublished, published, misplaced, or the state in the parking lot.\n" +
			"An event that was published within the last second may still be shown as unpublished. An event is misplaced if the relay\n" +
			"had passed its position before the event was committed: see `outboxie outbox status`. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := checkLimit(filter.Limit); err != nil {
				return err
			}
			if cmd.Flags().Changed("order") {
				if filter.Aggregate, err = wording.ParseAggregate(aggregate); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("since") {
				if filter.Since, err = parseSince(since, time.Now()); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("state") {
				if filter.State, err = wording.ParseEventState(state); err != nil {
					return err
				}
			}
			filter.Payloads = asJSON
			return p.withOutbox(cmd, func(ctx context.Context, ports outboxPorts) error {
				entries, err := ports.List(ctx, filter)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(p.stdout, httpapi.ShowEvents(entries))
				}
				return printList(p.stdout, entries, filter.Limit, time.Now())
			})
		},
	}
	cmd.Flags().StringVar(&aggregate, "order", "", "only events of this order: its `ID`, or TYPE/ID of another aggregate")
	cmd.Flags().StringVar(&filter.Type, "type", "", "only events of this `TYPE`, such as outboxie.order.paid.v1")
	cmd.Flags().StringVar(&since, "since", "", "only events recorded since this `TIME`: 90m, 24h, or 2026-11-24T03:00:00Z")
	cmd.Flags().StringVar(&state, "state", "", "only events in this `STATE`: "+strings.Join(operations.EventStates(), ", "))
	cmd.Flags().IntVar(&filter.Limit, "limit", 50, "at most so many")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with headers and payloads")
	return cmd
}

// parseSince reads a time, or a duration before now.
func parseSince(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	since, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errUsage.With("--since %q is neither how long ago, such as 90m, nor a time such as 2026-11-24T03:00:00Z", text)
	}
	return since, nil
}

func printList(out io.Writer, entries []operations.ListedEvent, limit int, now time.Time) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(out, "No such events.")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POSITION\tRECORDED\tAGE\tSTATE\tTYPE\tVERSION\tAGGREGATE\tEVENT")
	for _, e := range entries {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", e.Position, wording.Timestamp(e.RecordedAt), wording.Since(now, e.RecordedAt), printable.Text(e.State),
			printable.Text(e.Type), e.Version, printable.Text(e.Key.String()), printable.Text(e.ID))
	}
	if err := table.Flush(); err != nil || len(entries) < limit {
		return err
	}
	_, err := fmt.Fprintf(out, "These are the newest %d; there may be more: --limit.\n", limit)
	return err
}
