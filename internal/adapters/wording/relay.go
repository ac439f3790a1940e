package wording

import (
	"fmt"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Notice tells a person about a state, and what to do.
type Notice struct {
	Headline string   // a few words
	Lines    []string // sentences; a line that begins with two spaces is a statement or a command to copy
}

// adoptCommand is the command that repairs the relay.
const adoptCommand = "  outboxie outbox adopt"

// AdoptDone says that an adoption is done.
const AdoptDone = "Done. An instance goes on within the poll interval: outboxie outbox status"

// DescribeRelay describes the state of the relay, and how to repair it.
func DescribeRelay(s operations.RelayStatus) Notice {
	switch StateOf(s) {
	case Halted:
		return describeHalt(s)
	case SetBack:
		return Notice{"set back: the sequence of outbox.position went back", []string{
			fmt.Sprintf("The sequence gives out position %d next; the highest so far is %d; %s misplaced. Events at positions that the",
				s.NextPosition, s.HighestPosition, Counted(s.Misplaced, "event")),
			"relay has passed are not published until this is repaired. To see how, and then do it:", adoptCommand,
		}}
	case Leaderless:
		return Notice{"nobody leads", []string{
			"No instance holds the lease, so nothing is published. Run one that can reach NATS too:", "  outboxie serve",
			"If one runs, its log and its /readyz say why it does not lead.",
		}}
	case Waiting:
		return Notice{fmt.Sprintf("waiting for an open transaction (%s)", transactionAge(s)), describeTransaction(*s.OldestTransaction)}
	case Stuck:
		return Notice{fmt.Sprintf("stuck: the leader has made no progress for %s", Age(s.Now.Sub(s.SavedAt))), []string{
			"Can it reach NATS? Its log and its /readyz say what is wrong.",
		}}
	default:
		return Notice{Headline: "relaying"}
	}
}

func describeHalt(s operations.RelayStatus) Notice {
	lines := []string{printable.Line(s.Halt.Detail)}
	if meaning := HaltMeaning(s.Halt.Reason); meaning != "" {
		lines = append(lines, meaning)
	}
	if s.Halt.Reason != relay.HaltStreamUnfit {
		lines = append(lines, "Nothing is published until this is repaired. To see how, and then do it:", adoptCommand)
	}
	return Notice{fmt.Sprintf("halted: %s, for %s", printable.Line(string(s.Halt.Reason)), Age(s.Now.Sub(s.Halt.Since))), lines}
}

// DescribeOpenTransaction describes an open transaction that may hold up the relay, although the state of the relay is another one. It returns
// nil if there is none.
func DescribeOpenTransaction(s operations.RelayStatus) *Notice {
	if StateOf(s) == Waiting || !mayDelayRelay(s) {
		return nil
	}
	return &Notice{
		fmt.Sprintf("A transaction that has written the outbox is still open (%s). Later events have to wait for it.", transactionAge(s)),
		describeTransaction(*s.OldestTransaction),
	}
}

func transactionAge(s operations.RelayStatus) string {
	if s.OldestTransaction.Since.IsZero() {
		return "of unknown age"
	}
	return Age(s.Now.Sub(s.OldestTransaction.Since)) + " old"
}

// describeTransaction describes an open transaction, and how to end the transaction.
func describeTransaction(t operations.OpenTransaction) []string {
	if t.Session == 0 {
		gid := printable.SQL(t.Prepared)
		return []string{
			fmt.Sprintf("prepared transaction %s. To end it, in this database, either of:", gid),
			fmt.Sprintf("  ROLLBACK PREPARED %s;", gid), fmt.Sprintf("  COMMIT PREPARED %s;", gid),
		}
	}
	return []string{
		fmt.Sprintf("pid %d (%s), %s, last statement:", t.Session, printable.Line(t.Application), printable.Line(t.State)),
		"  " + printable.Line(t.Query), "To end it, which rolls it back:", fmt.Sprintf("  SELECT pg_terminate_backend(%d);", t.Session),
	}
}

// DescribeHaltedInstances names the instances that do not try to lead. It returns nil if there are none.
func DescribeHaltedInstances(s operations.RelayStatus) *Notice {
	if len(s.HaltedInstances) == 0 {
		return nil
	}
	n := &Notice{Headline: "Instances that are halted and do not try to lead:"}
	for _, h := range s.HaltedInstances {
		n.Lines = append(n.Lines, fmt.Sprintf("%s, for %s: %s, %s", printable.Text(h.Instance), Age(s.Now.Sub(h.Since)), printable.Line(string(h.Reason)), printable.Line(h.Detail)))
	}
	if s.Leader != nil {
		n.Lines = append(n.Lines, "Others publish. So look at these instances' settings first: DATABASE_URL, NATS_URL, STREAM_NAME.")
	}
	return n
}

// RelayRows are the figures of the relay, with their names.
func RelayRows(s operations.RelayStatus) [][2]string {
	leader, relayed, stream, backlog, parked := "nobody", "nothing yet", "none yet", "none", "none"
	if s.Leader != nil {
		leader = fmt.Sprintf("%s, for %s (token %d)", printable.Text(s.Leader.Holder), Age(s.Now.Sub(s.Leader.Since)), s.Leader.Token)
	}
	if !s.SavedAt.IsZero() {
		relayed = fmt.Sprintf("up to position %d, saved %s ago", s.Position, Age(s.Now.Sub(s.SavedAt)))
	}
	if s.Stream != "" {
		stream = fmt.Sprintf("%s, up to sequence %d", printable.Text(s.Stream), s.Sequence)
	}
	if s.Unpublished > 0 {
		backlog = Counted(s.Unpublished, "event")
	}
	if s.Unpublished > 0 && !s.Oldest.IsZero() {
		backlog = fmt.Sprintf("%s, the oldest from %s ago", Counted(s.Unpublished, "event"), Age(s.Now.Sub(s.Oldest)))
	}
	if s.ParkedEvents > 0 {
		parked = fmt.Sprintf("%s of %s: outboxie outbox parked", Counted(s.ParkedEvents, "event"), Counted(s.ParkedAggregates, "aggregate"))
	}
	if s.Misplaced > 0 {
		backlog = strings.TrimPrefix(backlog+", and ", "none, and ") + Counted(s.Misplaced, "event") + " misplaced below the relay's position: outboxie outbox adopt"
	}
	log := fmt.Sprintf("up to position %d", s.LastPosition)
	if s.PurgedTo > 0 {
		log += fmt.Sprintf(", removed by retention up to %d", s.PurgedTo)
	}
	return [][2]string{
		{"relay", s.Relay},
		{"now", Timestamp(s.Now)},
		{"leader", leader},
		{"log", log},
		{"relayed", relayed},
		{"stream", stream},
		{"backlog", backlog},
		{"parked", parked},
	}
}
