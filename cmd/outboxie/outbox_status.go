package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) outboxStatusCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show whether the relay publishes, and if not, why and what to do",
		Long: "Show whether the relay publishes, and if not, why and what to do; and the state of each subscriber. The relay saves its\n" +
			"position at most once a second, so an event that it published since then is still shown as waiting. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withOutbox(cmd, func(ctx context.Context, ports outboxPorts) error {
				status, err := ports.Status(ctx)
				if err != nil {
					return err
				}
				all, trouble := ports.subscribers.Summaries(ctx, status.Sequence)
				if asJSON {
					shown := httpapi.ShowStatus(status)
					if trouble == nil {
						shown.Subscribers = httpapi.ShowSummaries(all)
					}
					return printJSON(p.stdout, shown)
				}
				if err := printStatus(p.stdout, status); err != nil {
					return err
				}
				return printSummaries(p.stdout, all, trouble, status.Now)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(out io.Writer, s operations.RelayStatus) error {
	var text strings.Builder
	state := wording.DescribeRelay(s)
	text.WriteString(state.Headline + "\n")
	if len(state.Lines) > 0 {
		text.WriteString("\n")
		printLines(&text, state.Lines)
	}
	text.WriteString("\n")

	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range wording.RelayRows(s) {
		fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, more := range []*wording.Notice{wording.DescribeHaltedInstances(s), wording.DescribeOpenTransaction(s)} {
		if more != nil {
			text.WriteString("\n" + more.Headline + "\n")
			printLines(&text, more.Lines)
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func printLines(text *strings.Builder, lines []string) {
	for _, line := range lines {
		text.WriteString("  " + line + "\n")
	}
}
