package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
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
	switch httpapi.StateOf(s) {
	case httpapi.OutboxStatusStateHalted:
		fmt.Fprintf(&text, "halted: %s, for %s\n\n  %s\n", console.Line(string(s.Halt.Reason)), age(s.Now.Sub(s.Halt.Since)), console.Line(s.Halt.Detail))
		if meaning := httpapi.HaltMeaning(s.Halt.Reason); meaning != "" {
			fmt.Fprintf(&text, "  %s\n", meaning)
		}
		if s.Halt.Reason != relay.HaltStreamUnfit {
			text.WriteString("  Nothing is published until this is repaired. To see how, and then do it:\n    outboxie outbox adopt\n")
		}
	case httpapi.OutboxStatusStateSetBack:
		fmt.Fprintf(&text, "set back: the sequence of outbox.position went back\n\n"+
			"  The sequence gives out position %d next; the highest so far is %d; %s misplaced. Events at positions that the\n"+
			"  relay has passed are not published until this is repaired. To see how, and then do it:\n    outboxie outbox adopt\n",
			s.NextPosition, s.HighestPosition, counted(s.Misplaced, "event"))
	case httpapi.OutboxStatusStateLeaderless:
		text.WriteString("nobody leads\n\n  No instance holds the lease, so nothing is published. Run one that can reach NATS too:\n    outboxie serve\n" +
			"  If one runs, its log and its /readyz say why it does not lead.\n")
	case httpapi.OutboxStatusStateWaiting:
		fmt.Fprintf(&text, "waiting for an open transaction (%s)\n\n", writerAge(s))
		describeWriter(&text, *s.OldestTransaction)
	case httpapi.OutboxStatusStateStuck:
		fmt.Fprintf(&text, "stuck: the leader has made no progress for %s\n\n  Can it reach NATS? Its log and its /readyz say what is wrong.\n",
			age(s.Now.Sub(s.SavedAt)))
	case httpapi.OutboxStatusStateRelaying:
		text.WriteString("relaying\n")
	}
	text.WriteString("\n")

	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range statusRows(s) {
		fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	describeHalted(&text, s)
	if httpapi.StateOf(s) != httpapi.OutboxStatusStateWaiting && httpapi.MayDelayRelay(s) {
		fmt.Fprintf(&text, "\nA transaction that has written the outbox is still open (%s). Later events have to wait for it.\n", writerAge(s))
		describeWriter(&text, *s.OldestTransaction)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// describeHalted names the instances that do not try to lead.
func describeHalted(text *strings.Builder, s operations.RelayStatus) {
	if len(s.HaltedInstances) == 0 {
		return
	}
	text.WriteString("\nInstances that are halted and do not try to lead:\n")
	for _, h := range s.HaltedInstances {
		fmt.Fprintf(text, "  %s, for %s: %s, %s\n", console.Text(h.Instance), age(s.Now.Sub(h.Since)), console.Line(string(h.Reason)), console.Line(h.Detail))
	}
	if s.Leader != nil {
		text.WriteString("  Others publish. So look at these instances' settings first: DATABASE_URL, NATS_URL, STREAM_NAME.\n")
	}
}

func statusRows(s operations.RelayStatus) [][2]string {
	leader, relayed, stream, backlog, parked := "nobody", "nothing yet", "none yet", "none", "none"
	if s.Leader != nil {
		leader = fmt.Sprintf("%s, for %s (token %d)", console.Text(s.Leader.Holder), age(s.Now.Sub(s.Leader.Since)), s.Leader.Token)
	}
	if !s.SavedAt.IsZero() {
		relayed = fmt.Sprintf("up to position %d, saved %s ago", s.Position, age(s.Now.Sub(s.SavedAt)))
	}
	if s.Stream != "" {
		stream = fmt.Sprintf("%s, up to sequence %d", console.Text(s.Stream), s.Sequence)
	}
	if s.Unpublished > 0 {
		backlog = counted(s.Unpublished, "event")
	}
	if s.Unpublished > 0 && !s.Oldest.IsZero() {
		backlog = fmt.Sprintf("%s, the oldest from %s ago", counted(s.Unpublished, "event"), age(s.Now.Sub(s.Oldest)))
	}
	if s.ParkedEvents > 0 {
		parked = fmt.Sprintf("%s of %s: outboxie outbox parked", counted(s.ParkedEvents, "event"), counted(s.ParkedAggregates, "aggregate"))
	}
	if s.Misplaced > 0 {
		backlog = strings.TrimPrefix(backlog+", and ", "none, and ") + counted(s.Misplaced, "event") + " misplaced below the relay's position: outboxie outbox adopt"
	}
	log := fmt.Sprintf("up to position %d", s.LastPosition)
	if s.PurgedTo > 0 {
		log += fmt.Sprintf(", removed by retention up to %d", s.PurgedTo)
	}
	return [][2]string{
		{"relay", s.Relay},
		{"now", timestamp(s.Now)},
		{"leader", leader},
		{"log", log},
		{"relayed", relayed},
		{"stream", stream},
		{"backlog", backlog},
		{"parked", parked},
	}
}

func writerAge(s operations.RelayStatus) string {
	if s.OldestTransaction.Since.IsZero() {
		return "of unknown age"
	}
	return age(s.Now.Sub(s.OldestTransaction.Since)) + " old"
}

// describeWriter describes an open transaction, and how to end the transaction.
func describeWriter(text *strings.Builder, w operations.OpenTransaction) {
	if w.Session == 0 {
		gid := console.SQL(w.Prepared)
		fmt.Fprintf(text, "  prepared transaction %s. To end it, in this database, either of:\n    ROLLBACK PREPARED %s;\n    COMMIT PREPARED %s;\n", gid, gid, gid)
		return
	}
	fmt.Fprintf(text, "  pid %d (%s), %s, last statement:\n    %s\n  To end it, which rolls it back:\n    SELECT pg_terminate_backend(%d);\n",
		w.Session, console.Line(w.Application), console.Line(w.State), console.Line(w.Query), w.Session)
}
