package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// maxSummaries is how many subscribers the status of the relay shows.
const maxSummaries = 20

// printSummaries prints the states of subscribers, or the error of reading them. The status of the relay is shown in any case.
func printSummaries(out io.Writer, all []operations.SubscriberSummary, trouble error, now time.Time) error {
	if trouble != nil {
		_, err := fmt.Fprintf(out, "\nThe subscribers cannot be read: %s\n", printable.Line(trouble.Error()))
		return err
	}
	if len(all) == 0 {
		return nil
	}
	var text strings.Builder
	text.WriteString("\n")
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SUBSCRIBER\tSTATE\tMESSAGES BEHIND\tRATE\tCOPIES\tDEAD\tMISSED")
	for _, s := range all[:min(len(all), maxSummaries)] {
		behind := "-"
		if s.MessagesBehind != nil {
			behind = fmt.Sprint(*s.MessagesBehind)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.1f/s\t%d\t%d\t%d\n", printable.Text(s.Subscriber), wording.DescribeSummary(s, now), behind, s.Rate, len(s.Copies), s.Dead, s.MissedMessages)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if more := len(all) - maxSummaries; more > 0 {
		fmt.Fprintf(&text, "Not shown: %s.\n", wording.Counted(more, "subscriber"))
	}
	text.WriteString("For details: outboxie subscriber status\n")
	_, err := io.WriteString(out, text.String())
	return err
}
