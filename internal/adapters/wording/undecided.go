package wording

import (
	"fmt"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// The nouns for undecided events.
const (
	ParkedEvent = "parked event"
	DeadLetter  = "dead letter"
)

// NothingParked says that the parking lot is empty.
const NothingParked = "Nothing is parked."

// NothingDead says that a subscriber has no dead letter that somebody must decide about.
func NothingDead(subscriber string) string {
	return fmt.Sprintf("Subscriber %s has nothing that is dead.", printable.Text(subscriber))
}

// DescribeChoice says how many events are chosen. thing is the noun for the events.
func DescribeChoice(found operations.ChoiceCount, thing string) string {
	if found.Events == 0 {
		return fmt.Sprintf("There is no such %s.", thing)
	}
	return fmt.Sprintf("Chosen: %s. Events of the same aggregates that wait behind: %d.", Counted(found.Events, thing), found.EventsBehind)
}

// RedriveDone says that the leader redrives events. The text has no full stop.
func RedriveDone(events int) string {
	return fmt.Sprintf("To be redriven: %s. The leader does it within a second", Counted(events, "event"))
}

// RedriveChosenDone says that the leader redrives the chosen events and those behind them. The text has no full stop.
func RedriveChosenDone(chosen int) string {
	return fmt.Sprintf("To be redriven: %s, and the events behind. The leader does it within a second", Counted(chosen, "event"))
}

// DiscardParkedDone says that parked events were discarded. The text has no full stop.
func DiscardParkedDone(events int) string {
	return fmt.Sprintf("Done. Discarded: %s. The events behind are still parked", Counted(events, "event"))
}

// DescribeParked describes a parked event, and what happens if it is discarded.
func DescribeParked(e operations.ListedEvent) string {
	key := printable.Text(e.Key.String())
	return fmt.Sprintf(`position   %d
event      %s
type       %s
aggregate  %s, version %d
recorded   %s
parked     %s

If it is discarded, version %d of %s never reaches any subscriber.
The later events of the aggregate stay parked until they are redriven:
  %s
`, e.Position, printable.Text(e.ID), printable.Text(e.Type), key, e.Version, Timestamp(e.RecordedAt), printable.Line(e.Reason), e.Version, key,
		printable.Command("outboxie", "outbox", "redrive", "--aggregate", e.Key.String()))
}

// RetryLettersDone says that a subscriber retries dead letters.
func RetryLettersDone(subscriber string, letters int) string {
	return fmt.Sprintf("Subscriber %s retries %s when it runs.", printable.Text(subscriber), Counted(letters, DeadLetter))
}

// RetryLetterDone says that a subscriber retries one event.
func RetryLetterDone(subscriber, event string) string {
	return fmt.Sprintf("Subscriber %s retries event %s when it runs.", printable.Text(subscriber), printable.Text(event))
}

// DiscardLettersDone says that dead letters were discarded.
func DiscardLettersDone(subscriber string, letters int) string {
	return fmt.Sprintf("Discarded for subscriber %s: %s.", printable.Text(subscriber), Counted(letters, DeadLetter))
}

// DiscardLetterDone says that one dead letter was discarded.
func DiscardLetterDone(subscriber string, letter inbox.Letter) string {
	return fmt.Sprintf("Discarded for subscriber %s: %s.", printable.Text(subscriber), DescribeLetter(letter))
}

// DiscardLetterPlan says what the discard of a letter would do. The text is the beginning of a sentence without its capital letter.
func DiscardLetterPlan(subscriber string, letter inbox.Letter) string {
	return fmt.Sprintf("this would discard, for subscriber %s and for ever, %s", printable.Text(subscriber), DescribeLetter(letter))
}

// DescribeLetter describes a letter within a sentence.
func DescribeLetter(letter inbox.Letter) string {
	if !letter.Readable() {
		return fmt.Sprintf("message %s on %s (%s), which is not an event; no event waits behind it",
			printable.Text(letter.ID), printable.Text(letter.Subject), FirstLine(letter.Error))
	}
	state := printable.Text(string(letter.State))
	if letter.Error != "" {
		state += ": " + FirstLine(letter.Error)
	}
	return fmt.Sprintf("event %s (%s, version %d of %s, %s), behind which %s",
		printable.Text(letter.ID), printable.Text(letter.Type), letter.Version, printable.Text(letter.Key.String()), state, waiting(letter.Behind))
}

// waiting returns how many events wait, as the end of a sentence.
func waiting(events int) string {
	if events == 1 {
		return "1 event waits"
	}
	return fmt.Sprintf("%d events wait", events)
}

// FirstLine returns the first line of a foreign text.
func FirstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return printable.Line(line)
}

// DescribeGroups says how many events are in how many groups, and what is not shown.
func DescribeGroups(groups operations.Groups) string {
	text := fmt.Sprintf("%s in %s.", Counted(groups.Events, "event"), Counted(groups.All, "group"))
	if groups.All > len(groups.List) {
		text += fmt.Sprintf(" These are the largest %d.", len(groups.List))
	}
	if groups.More {
		text += " There are more events, which were not looked at."
	}
	return text
}

// GroupTypes returns the first type of a group's events, and the number of the other types.
func GroupTypes(g operations.Group) string {
	switch len(g.Types) {
	case 0:
		return "-"
	case 1:
		return printable.Text(g.Types[0])
	}
	return fmt.Sprintf("%s (+%d)", printable.Text(g.Types[0]), len(g.Types)-1)
}

// ParkedTotal says how many events wait in the parking lot.
func ParkedTotal(events, aggregates int64) string {
	return fmt.Sprintf("%s of %s waiting in all.", Counted(events, "event"), Counted(aggregates, "aggregate"))
}
