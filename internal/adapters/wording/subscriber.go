package wording

import (
	"errors"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// SubscriberCommand returns a command about a subscriber, to be typed.
func SubscriberCommand(id string, args ...string) string {
	return printable.Command(append(append([]string{"outboxie", "subscriber"}, args...), "--id", id)...)
}

// SubscriberRemedy returns what an operator can do about an error of a subscriber. It returns an empty text if there is no such advice.
func SubscriberRemedy(err error, id string) string {
	for _, known := range []struct {
		err    error
		remedy string
	}{
		{inbox.ErrNoSubscriber, "`outboxie subscriber status` lists the subscribers"},
		{inbox.ErrNotBegun, "it begins with its first copy: outboxie subscribe --id " + printable.Text(id)},
		{inbox.ErrForgotten, "to let it begin as a new subscriber, run this and start a copy: " + SubscriberCommand(id, "forget", "--lift")},
		{inbox.ErrOtherHandler, "leave --handler (SUBSCRIBER_HANDLER) out, or take another id"},
		{inbox.ErrNotForgotten, "there is nothing to lift"},
		{inbox.ErrNotErased, "a copy of an older version may still write them: stop it, and try again"},
		{inbox.ErrNotWanted, "`outboxie subscriber status` shows the types that it wants"},
		{inbox.ErrOtherStream, "start a copy, or wait a second if one runs: it moves the subscriber to this stream; then try again"},
		{operations.ErrStreamWentBack, "start a copy, or wait a second if one runs: it moves the lane to a message that the stream still has; then try again"},
		{inbox.ErrNoStream, "the first leader creates the stream: outboxie serve"},
		{operations.ErrNothingToMove, "`outboxie subscriber status` shows where it stands"},
	} {
		if errors.Is(err, known.err) {
			return known.remedy
		}
	}
	return ""
}

// PausePlan says what it would do to pause a subscriber.
func PausePlan(id string) string {
	return fmt.Sprintf("Subscriber %s stops: no event and no dead letter of it takes effect, whatever copies run, until it is resumed. "+
		"Copies keep running idle.", printable.Text(id))
}

// PauseDone says that a subscriber was paused.
func PauseDone(id string) string {
	return fmt.Sprintf("Subscriber %s is paused. To let it go on: %s", printable.Text(id), SubscriberCommand(id, "resume"))
}

// ResumePlan says what it would do to resume a subscriber.
func ResumePlan(id string) string {
	return fmt.Sprintf("Subscriber %s goes on, from where it stopped. Copies that run notice within a second.", printable.Text(id))
}

// ResumeDone says that a subscriber was resumed.
func ResumeDone(id string) string { return fmt.Sprintf("Subscriber %s goes on.", printable.Text(id)) }

// LanesPlan says what it would do to give a subscriber another number of lanes.
func LanesPlan(id string, lanes, before int) string {
	return fmt.Sprintf("Subscriber %s gets %s, and has %d. All new lanes begin where the slowest one stands; what was applied is dropped "+
		"when it is read again. One lane keeps the order of the stream, more keep that of each aggregate only.",
		printable.Text(id), Counted(lanes, "lane"), before)
}

// LanesDone says that a subscriber got another number of lanes, which begin after the sequence at.
func LanesDone(id string, lanes, before int, at uint64) string {
	return fmt.Sprintf("Subscriber %s has %s now, and had %d. All begin after sequence %d; what was applied is dropped.",
		printable.Text(id), Counted(lanes, "lane"), before, at)
}

// IgnorePlan says what a subscriber that ignores a type from now on would do. It is the end of a sentence that begins with "This would".
func IgnorePlan(id, eventType string) string {
	return fmt.Sprintf("let subscriber %s ignore events of the type %s, and discard its dead letters of that type for ever",
		printable.Text(id), printable.Text(eventType))
}

// IgnoreDone says that a subscriber ignores a type from now on.
func IgnoreDone(id, eventType string, discarded int) string {
	return fmt.Sprintf("Subscriber %s passes over events of the type %s now; %s of that type were discarded.",
		printable.Text(id), printable.Text(eventType), Counted(discarded, "dead letter"))
}

// ForgetPlan says what it would do to forget a subscriber. It is the end of a sentence that begins with "This would".
func ForgetPlan(id string) string {
	return fmt.Sprintf("end subscriber %s for ever: its lanes, dead letters and inbox are deleted, its effects stay", printable.Text(id))
}

// ForgetDone says that a subscriber was forgotten.
func ForgetDone(id string, erased int) string {
	return fmt.Sprintf("Subscriber %s is forgotten; %s erased. Its effects stay. Running copies end, and no new copy begins before: %s",
		printable.Text(id), Counted(erased, "row"), SubscriberCommand(id, "forget", "--lift"))
}

// ForgetInterrupted adds to an error of an interrupted Forget how to go on.
func ForgetInterrupted(id string, erased int, err error) error {
	return fmt.Errorf("forget subscriber %s (%s erased; run the same again to go on): %w", printable.Text(id), Counted(erased, "row"), err)
}

// LiftPlan says what it would do to remove the tombstone of a subscriber.
func LiftPlan(id string) string {
	return fmt.Sprintf("The tombstone of subscriber %s is removed. A copy that starts then begins as a new subscriber, with the first event that "+
		"the stream has: what took effect before takes effect again.", printable.Text(id))
}

// LiftDone says that the tombstone of a subscriber is gone.
func LiftDone(id string) string {
	return fmt.Sprintf("The tombstone of subscriber %s is gone. A copy that starts now begins as a new subscriber, with the first event that "+
		"the stream has: what took effect before takes effect again.", printable.Text(id))
}

// RewindPlan says what a move backwards would do, in two sentences.
func RewindPlan(plan operations.MovePreview) []string {
	return []string{
		fmt.Sprintf("Subscriber %s goes back to sequence %d, with %s, from %s: %s are read again.", printable.Text(plan.Subscriber),
			plan.To.Sequence, Counted(plan.Lanes, "lane"), standsAt(plan), Counted(plan.Events, "event")),
		"The inbox drops what was applied. To apply it once more, start a subscriber under a new id: outboxie subscribe --id NEW",
	}
}

// RewindDone says what a move backwards has done.
func RewindDone(done operations.MovePreview) string {
	return fmt.Sprintf("Done. It was at %s.", standsAt(done))
}

// SkipPlan says what a move forwards would do. It is the end of a sentence that begins with "This would".
func SkipPlan(plan operations.MovePreview) string {
	return fmt.Sprintf("let subscriber %s skip at most %s, up to sequence %d, with %s, from %s; none of them takes effect",
		printable.Text(plan.Subscriber), Counted(plan.Events, "event"), plan.To.Sequence, Counted(plan.Lanes, "lane"), standsAt(plan))
}

// SkipDone says what a move forwards has done.
func SkipDone(done operations.MovePreview) string {
	return fmt.Sprintf("Subscriber %s goes on after sequence %d. It was at %s, and skips at most %s.", printable.Text(done.Subscriber),
		done.To.Sequence, standsAt(done), Counted(done.Events, "event"))
}

// standsAt describes where lanes stand.
func standsAt(plan operations.MovePreview) string {
	if plan.Lowest == plan.Highest {
		return fmt.Sprintf("sequence %d", plan.Lowest)
	}
	return fmt.Sprintf("sequences %d to %d", plan.Lowest, plan.Highest)
}
