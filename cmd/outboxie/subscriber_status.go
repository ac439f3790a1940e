package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) subscriberStatusCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status [--id NAME]",
		Short: "Show the state of subscribers: position, lag, rate, copies, and decisions of operators",
		Long: "Show the state of all subscribers, or of one with its lanes: how far each has come, how far it is behind, how fast it is,\n" +
			"which copies run, and whether it is paused or forgotten. Needs DATABASE_URL; without NATS_URL no lag is known.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.configure(cmd, config.DatabaseURL)
			if err != nil {
				return err
			}
			return p.withSubscribers(cmd, c, func(ctx context.Context, admin operations.SubscriberAdmin) error {
				found, err := admin.Subscribers(ctx)
				if err != nil {
					return err
				}
				if id := c.Subscriber.ID; id != "" {
					found.All = slices.DeleteFunc(found.All, func(s operations.SubscriberStatus) bool { return s.Subscriber != id })
					if len(found.All) == 0 {
						return engine.WithRemedy(inbox.ErrNoSubscriber.With("there is no subscriber %s", id), id)
					}
				}
				if asJSON {
					return printJSON(p.stdout, httpapi.ShowSubscribers(found))
				}
				return printSubscribers(p.stdout, found, c.Subscriber.ID != "", time.Now())
			})
		},
	}
	config.AddFlags(cmd.Flags(), config.SubscriberID)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printSubscribers(out io.Writer, found operations.SubscriberList, one bool, now time.Time) error {
	if len(found.All) == 0 {
		_, err := fmt.Fprintln(out, "There are no subscribers.")
		return err
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SUBSCRIBER\tSTATE\tHANDLER\tLANES\tSEQUENCE\tBEHIND\tOLDEST\tRATE\tCOPIES\tDEAD\tMISSED")
	for _, s := range found.All {
		sequence, behind, oldest := "-", "-", "-"
		if len(s.Lanes) > 0 {
			sequence = fmt.Sprint(inbox.Lowest(s.Lanes).Sequence)
		}
		if s.Lag != nil {
			behind, oldest = fmt.Sprint(s.Lag.Events), wording.Age(s.Lag.Oldest)
		}
		handler := "-"
		if s.Handler != "" {
			handler = printable.Text(s.Handler)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%.1f/s\t%d\t%d\t%d\n", printable.Text(s.Subscriber), wording.DescribeSubscriber(s.Overview, now), handler, len(s.Lanes), sequence,
			behind, oldest, s.Rate, len(s.Copies), s.Dead, s.MissedMessages)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if one {
		if err := printLanes(&text, found.All[0]); err != nil {
			return err
		}
	}
	if found.StreamError != nil {
		fmt.Fprintf(&text, "\nThe stream cannot be asked, so no lag is known: %s\n", printable.Line(found.StreamError.Error()))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// printLanes prints the lanes, copies and types of one subscriber.
func printLanes(text *strings.Builder, s operations.SubscriberStatus) error {
	list := func(names []string) string {
		if len(names) == 0 {
			return "none"
		}
		shown := make([]string, len(names))
		for i, name := range names {
			shown[i] = printable.Text(name)
		}
		return strings.Join(shown, ", ")
	}
	fmt.Fprintf(text, "\ncopies  %s\ntypes   %s\n", list(s.Copies), list(s.Types))
	if len(s.Lanes) == 0 {
		return nil
	}
	text.WriteString("\n")
	table := tabwriter.NewWriter(text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LANE\tSEQUENCE\tSTORED\tMESSAGES BEHIND\tMOVED")
	for n, lane := range s.Lanes {
		behind := "-"
		if n < len(s.MessagesBehind) {
			behind = fmt.Sprint(s.MessagesBehind[n])
		}
		fmt.Fprintf(table, "%d\t%d\t%s\t%s\t%s ago\n", lane.Lane, lane.Sequence, wording.Timestamp(lane.StoredAt), behind, wording.Age(lane.Idle))
	}
	return table.Flush()
}
