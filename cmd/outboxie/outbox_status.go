package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operating"
)

func (p *program) outboxStatusCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell whether the relay publishes, and if not, why and what to do",
		Long: "Tell whether the relay publishes, and if not, why and what to do. The relay saves its position at most once a second, so\n" +
			"what it published since then is still shown as waiting. Needs DATABASE_URL.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.atOutbox(cmd, func(ctx context.Context, desk outboxDesk) error {
				status, err := desk.Status(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(p.stdout, newStatusJSON(status))
				}
				return printStatus(p.stdout, status)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// What the relay does, in a word that scripts rely on.
const (
	relayHalted     = "halted"     // it stopped on purpose and waits for a person
	relayLeaderless = "leaderless" // nobody leads
	relayWaiting    = "waiting"    // an open transaction holds the log up
	relayStuck      = "stuck"      // events wait, and the leader does not come on
	relayRelaying   = "relaying"
)

const (
	longOpen  = time.Second     // for a transaction that writes the log to be worth a word
	longStuck = 5 * time.Second // several times what the relay needs to say that it has come on
)

func relayState(s operating.Status) string {
	switch {
	case s.Halt != nil:
		return relayHalted
	case s.Leader == nil:
		return relayLeaderless
	case s.Unpublished > 0 && holdsUp(s):
		return relayWaiting
	case heldUp(s) && s.Now.Sub(s.Saved) > longStuck:
		return relayStuck
	}
	return relayRelaying
}

// holdsUp reports whether an open transaction may be what is waited for.
func holdsUp(s operating.Status) bool {
	if s.Writer == nil || s.Writer.Since.IsZero() {
		return s.Writer != nil && heldUp(s)
	}
	return s.Now.Sub(s.Writer.Since) > longOpen
}

// heldUp reports whether an event waits for longer than it takes to publish it.
func heldUp(s operating.Status) bool { return s.Unpublished > 0 && s.Now.Sub(s.Oldest) > longStuck }

// meanings says what a halt means to whoever has to deal with it.
var meanings = map[outbox.HaltReason]string{
	outbox.HaltStreamMissing:  "The stream was deleted, or NATS_URL names another server.",
	outbox.HaltStreamReplaced: "The stream was deleted and made anew, or NATS_URL names another server.",
	outbox.HaltTailGone:       "The end of the stream was deleted or has expired, so it does not say any more what was published last.",
	outbox.HaltTailCopied:     "Somebody stored a copy of an old message at the end of the stream.",
	outbox.HaltTailForeign:    "Somebody else wrote or changed the end of the stream.",
	outbox.HaltLogPurged:      "The stream lost messages which cannot be published again, because retention has removed them from the log.",
	outbox.HaltHistoryLost:    "The database lost committed events, or DATABASE_URL names another one.",
}

func printStatus(out io.Writer, s operating.Status) error {
	var text strings.Builder
	switch relayState(s) {
	case relayHalted:
		fmt.Fprintf(&text, "halted: %s, for %s\n\n  %s\n", s.Halt.Reason, age(s.Now.Sub(s.Halt.Since)), oneLine(s.Halt.Detail))
		if meaning := meanings[s.Halt.Reason]; meaning != "" {
			fmt.Fprintf(&text, "  %s\n", meaning)
		}
		text.WriteString("  Nothing is published until this is repaired. To see how, and then do it:\n    outboxie outbox adopt\n")
	case relayLeaderless:
		text.WriteString("nobody leads\n\n  No instance holds the lease, so nothing is published. Run one that can reach NATS too:\n    outboxie serve\n")
	case relayWaiting:
		fmt.Fprintf(&text, "waiting for an open transaction (%s)\n\n", writerAge(s))
		describeWriter(&text, *s.Writer)
	case relayStuck:
		fmt.Fprintf(&text, "stuck: the leader has not come on for %s\n\n  Can it reach NATS? Its log and its /readyz say what is wrong.\n",
			age(s.Now.Sub(s.Saved)))
	case relayRelaying:
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
	if relayState(s) != relayWaiting && holdsUp(s) {
		fmt.Fprintf(&text, "\nA transaction that has written the outbox is still open (%s). Later events have to wait for it.\n", writerAge(s))
		describeWriter(&text, *s.Writer)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func statusRows(s operating.Status) [][2]string {
	leader, relayed, stream, backlog, parked := "nobody", "nothing yet", "none yet", "none", "none"
	if s.Leader != nil {
		leader = fmt.Sprintf("%s, for %s (token %d)", oneLine(s.Leader.Holder), age(s.Now.Sub(s.Leader.Since)), s.Leader.Token)
	}
	if !s.Saved.IsZero() {
		relayed = fmt.Sprintf("up to position %d, saved %s ago", s.Position, age(s.Now.Sub(s.Saved)))
	}
	if s.Stream != "" {
		stream = fmt.Sprintf("%s, up to sequence %d", oneLine(s.Stream), s.Sequence)
	}
	if s.Unpublished > 0 {
		backlog = fmt.Sprintf("%s, the oldest from %s ago", counted(s.Unpublished, "event"), age(s.Now.Sub(s.Oldest)))
	}
	if s.ParkedEvents > 0 {
		parked = fmt.Sprintf("%s of %s: outboxie outbox parked", counted(s.ParkedEvents, "event"), counted(s.ParkedAggregates, "aggregate"))
	}
	log := fmt.Sprintf("up to position %d", s.Last)
	if s.PurgedTo > 0 {
		log += fmt.Sprintf(", removed by retention up to %d", s.PurgedTo)
	}
	return [][2]string{
		{"relay", s.Relay},
		{"now", moment(s.Now)},
		{"leader", leader},
		{"log", log},
		{"relayed", relayed},
		{"stream", stream},
		{"backlog", backlog},
		{"parked", parked},
	}
}

func writerAge(s operating.Status) string {
	if s.Writer.Since.IsZero() {
		return "of unknown age"
	}
	return age(s.Now.Sub(s.Writer.Since)) + " old"
}

// describeWriter tells who the transaction is, and how to end it.
func describeWriter(text *strings.Builder, w operating.Writer) {
	if w.PID == 0 {
		gid := "'" + strings.ReplaceAll(oneLine(w.GID), "'", "''") + "'"
		fmt.Fprintf(text, "  prepared transaction %s. To end it, in this database, either of:\n    ROLLBACK PREPARED %s;\n    COMMIT PREPARED %s;\n", gid, gid, gid)
		return
	}
	fmt.Fprintf(text, "  pid %d (%s), %s, last statement:\n    %s\n  To end it, which rolls it back:\n    SELECT pg_terminate_backend(%d);\n",
		w.PID, oneLine(w.Application), w.State, oneLine(w.Query), w.PID)
}

// statusJSON is the contract with scripts.
type statusJSON struct {
	State            string      `json:"state"` // halted, leaderless, waiting, stuck, relaying
	Relay            string      `json:"relay"`
	Now              time.Time   `json:"now"`
	Leader           *leaderJSON `json:"leader"`
	Halt             *haltJSON   `json:"halt"`
	Position         int64       `json:"position"`
	SavedAt          *time.Time  `json:"saved_at"`
	Stream           string      `json:"stream"`
	StreamSequence   uint64      `json:"stream_sequence"`
	LastPosition     int64       `json:"last_position"`
	PurgedTo         int64       `json:"purged_to"`
	Unpublished      int64       `json:"unpublished"`
	OldestAt         *time.Time  `json:"oldest_unpublished_at"`
	OpenWriter       *writerJSON `json:"open_writer"`
	ParkedEvents     int64       `json:"parked_events"`
	ParkedAggregates int64       `json:"parked_aggregates"`
}

type leaderJSON struct {
	Holder string    `json:"holder"`
	Token  int64     `json:"token"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

type haltJSON struct {
	Reason  outbox.HaltReason `json:"reason"`
	Detail  string            `json:"detail"`
	Meaning string            `json:"meaning"`
	Since   time.Time         `json:"since"`
}

type writerJSON struct {
	PID         int        `json:"pid"`
	GID         string     `json:"gid"`
	Application string     `json:"application"`
	State       string     `json:"state"`
	Query       string     `json:"query"`
	Since       *time.Time `json:"since"`
}

func newStatusJSON(s operating.Status) statusJSON {
	shown := statusJSON{
		State: relayState(s), Relay: s.Relay, Now: s.Now.UTC(), Position: int64(s.Position), SavedAt: known(s.Saved),
		Stream: s.Stream, StreamSequence: s.Sequence, LastPosition: int64(s.Last), PurgedTo: int64(s.PurgedTo),
		Unpublished: s.Unpublished, OldestAt: known(s.Oldest), ParkedEvents: s.ParkedEvents, ParkedAggregates: s.ParkedAggregates,
	}
	if l := s.Leader; l != nil {
		shown.Leader = &leaderJSON{Holder: l.Holder, Token: l.Token, Since: l.Since.UTC(), Until: l.Until.UTC()}
	}
	if h := s.Halt; h != nil {
		shown.Halt = &haltJSON{Reason: h.Reason, Detail: h.Detail, Meaning: meanings[h.Reason], Since: h.Since.UTC()}
	}
	if w := s.Writer; w != nil {
		shown.OpenWriter = &writerJSON{
			PID: w.PID, GID: w.GID, Application: w.Application, State: w.State, Query: w.Query, Since: known(w.Since),
		}
	}
	return shown
}
