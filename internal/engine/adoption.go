package engine

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
)

// WithAdoptHint adds to the error of a refused adoption the option with which the adoption is possible.
func WithAdoptHint(err error) error {
	switch {
	case errors.Is(err, operating.ErrNotAdoptable):
		return fmt.Errorf("%w; use --position only to publish again events that were stored under subjects that no subscriber reads", err)
	case errors.Is(err, operating.ErrStartUnknown):
		return fmt.Errorf("%w; if it is the right one, name the last published event with --position", err)
	case errors.Is(err, operating.ErrSequencesRepeat):
		return fmt.Errorf("%w; or stop every instance and use --accept-repeats", err)
	}
	return err
}

// DescribeAdoption writes what an adoption would do.
func DescribeAdoption(out io.Writer, stream string, plan operating.Adoption) error {
	said := func(format string, args ...any) error {
		_, err := fmt.Fprintf(out, format+"\n", args...)
		return err
	}
	errs := []error{
		said("The relay is halted (%s): %s.", printable.Line(string(plan.Halt.Reason)), printable.Line(plan.Halt.Detail)),
		said("\nAn adoption would"),
	}
	switch {
	case plan.CreateStream:
		errs = append(errs, said("  - create stream %s again, with sequences from %d on, so that late appends to the former stream are refused;", stream, plan.FirstSequence))
	case plan.OtherStream:
		errs = append(errs, said("  - accept stream %s, which was deleted and created again;", stream))
	}
	switch {
	case plan.FirstSequence > 0 && !plan.CreateStream:
		errs = append(errs, said("  - raise its sequences to %d, so that late appends to the former stream are refused;", plan.FirstSequence))
	case plan.Repeats && plan.AcceptRepeats:
		errs = append(errs, said("  - accept that its sequences are not above the former stream's: is every instance stopped?"))
	case plan.Repeats:
		errs = append(errs, said("  - be REFUSED, because its sequences are not above the former stream's, and it holds messages;"))
	}
	place := fmt.Sprintf("position %d, event %s", plan.After.Position, printable.Text(plan.After.EventID))
	switch {
	case plan.After.Position == 0:
		place = "position 0, the beginning of the log"
	case plan.After.EventID == "":
		place = fmt.Sprintf("position %d, which retention has removed", plan.After.Position)
	}
	errs = append(errs, said("  - go on after %s: %s;", place, plan.Why))
	if plan.Incomplete {
		errs = append(errs, said("  - skip the events between the stream's end and this position: the log no longer has them;"))
	}
	if plan.OtherStream {
		errs = append(errs, said("  - redrive again the events that were redriven into the former stream;"))
	}
	if plan.Sequence.WentBack() {
		errs = append(errs, said("  - set the sequence of outbox.position above %d: it would give out position %d next;", plan.Sequence.HighestPosition, plan.Sequence.NextPosition))
	}
	if plan.Sequence.Misplaced > 0 {
		errs = append(errs, said("  - move %s from positions that the relay has passed to the end of the log, and publish them there;",
			wording.Counted(plan.Sequence.Misplaced, "event")))
	}
	errs = append(errs, said("  - publish %s of the log after this position. Subscribers drop the events that they have seen.",
		wording.Counted(plan.Events, "event")))
	return errors.Join(append(errs, describeOrphans(out, stream, plan.Orphans))...)
}

// maxOrphansShown is the maximum number of listed orphans. An orphan is an event that the stream holds and the log has lost.
const maxOrphansShown = 100

func describeOrphans(out io.Writer, stream string, orphans []operating.Orphan) error {
	if len(orphans) == 0 {
		return nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\nThe stream holds %s that the log does not have. The database has lost these events and the other changes of their\n"+
		"transactions; subscribers have seen the events. They stay in the stream. A person has to decide what to do about each\n"+
		"of them. To see its message: %s SEQUENCE\n", wording.Counted(len(orphans), "event"), printable.Command("nats", "stream", "get", stream))
	for _, orphan := range orphans[:min(len(orphans), maxOrphansShown)] {
		fmt.Fprintf(&text, "  sequence %d: position %d, event %s\n", orphan.Sequence, orphan.Position, printable.Text(orphan.EventID))
	}
	if more := len(orphans) - maxOrphansShown; more > 0 {
		fmt.Fprintf(&text, "  and %d more\n", more)
	}
	_, err := io.WriteString(out, text.String())
	return err
}
