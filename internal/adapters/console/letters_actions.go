package console

import (
	"context"
	"fmt"
	"net/url"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// chosenLetters are the letters that a form chooses.
type chosenLetters struct {
	undecidedChoice
	subscriber string
	letters    operations.UndecidedEventsAdmin
}

func (c *Console) chooseLetters(ctx context.Context, form url.Values) (chosen chosenLetters, err error) {
	chosen.subscriber = form.Get(choiceSubscriber)
	if chosen.undecidedChoice, err = readUndecided(form, choiceEvent); err != nil {
		return chosen, err
	}
	chosen.letters, err = c.DeadGroups.ForSubscriber(ctx, chosen.subscriber)
	return chosen, err
}

func (c *Console) planLettersRetry(ctx context.Context, form url.Values) (plan, error) {
	chosen, err := c.chooseLetters(ctx, form)
	if err != nil {
		return plan{}, err
	}
	if chosen.one != "" {
		letter, err := c.DeadLetters.Letter(ctx, chosen.subscriber, chosen.one)
		return planLetterRetry(letter), err
	}
	found, err := chosen.letters.Count(ctx, chosen.Choice)
	if err != nil {
		return plan{}, err
	}
	found.Events -= found.Unreadable
	planned := plan{Lines: []string{wording.DescribeChoice(found, wording.DeadLetter)}, Nothing: found.Events == 0, Count: found.Events}
	if found.Unreadable > 0 {
		planned.Lines = append(planned.Lines, fmt.Sprintf("Left out: %s, because nobody can retry a message that is not an event. It can only be discarded.",
			wording.Counted(found.Unreadable, "unreadable message")))
	}
	if !planned.Nothing {
		planned.Lines = append(planned.Lines, "The running subscriber tries them again soon, and goes on with what waits behind, in order.")
	}
	return planned, nil
}

// planLetterRetry says what a retry of one letter would do. Only a dead letter that is an event can be retried.
func planLetterRetry(letter inbox.Letter) plan {
	described := fmt.Sprintf("Chosen: %s.", wording.DescribeLetter(letter))
	switch {
	case !letter.Readable():
		return plan{Lines: []string{described, "Nobody can retry a message that is not an event. It can only be discarded."}, Nothing: true}
	case letter.State == inbox.Waiting:
		return plan{Lines: []string{described, "It waits behind an earlier event of its aggregate. Retry the earlier event."}, Nothing: true}
	case letter.State != inbox.Dead:
		return plan{Lines: []string{described, fmt.Sprintf("Only a dead letter can be retried. This letter is %s.", letter.State)}, Nothing: true}
	}
	return plan{Lines: []string{described, "The running subscriber tries it again soon, and goes on with what waits behind, in order."}}
}

func (c *Console) retryLetters(ctx context.Context, form url.Values) (string, error) {
	chosen, err := c.chooseLetters(ctx, form)
	if err != nil {
		return "", err
	}
	if chosen.one != "" {
		return wording.RetryLetterDone(chosen.subscriber, chosen.one), c.DeadLetters.Retry(ctx, chosen.subscriber, chosen.one)
	}
	count, err := chosen.letters.Retry(ctx, chosen.Choice)
	return wording.RetryLettersDone(chosen.subscriber, count), err
}

func (c *Console) planLettersDiscard(ctx context.Context, form url.Values) (plan, error) {
	chosen, err := c.chooseLetters(ctx, form)
	if err != nil {
		return plan{}, err
	}
	if chosen.one != "" {
		return c.planLetterDiscard(ctx, chosen)
	}
	found, err := chosen.letters.Count(ctx, chosen.Choice)
	if err != nil {
		return plan{}, err
	}
	planned := plan{Lines: []string{wording.DescribeChoice(found, wording.DeadLetter)}, Nothing: found.Events == 0, Count: found.Events}
	if found.Unreadable > 0 {
		planned.Lines = append(planned.Lines, fmt.Sprintf("Of these: %s.", wording.Counted(found.Unreadable, "unreadable message")))
	}
	if !planned.Nothing {
		planned.Lines = append(planned.Lines, "Their events never take effect for this subscriber, however often they come again. What waits behind them goes on.")
	}
	return planned, nil
}

func (c *Console) planLetterDiscard(ctx context.Context, chosen chosenLetters) (plan, error) {
	letter, err := c.DeadLetters.Letter(ctx, chosen.subscriber, chosen.one)
	if err != nil {
		return plan{}, err
	}
	if letter.State == inbox.Discarded {
		return plan{Lines: []string{fmt.Sprintf("Chosen: %s. It was discarded before.", wording.DescribeLetter(letter))}, Nothing: true}, nil
	}
	return plan{Lines: []string{"T" + wording.DiscardLetterPlan(chosen.subscriber, letter)[1:] + "."}}, nil
}

func (c *Console) discardLetters(ctx context.Context, form url.Values) (string, error) {
	chosen, err := c.chooseLetters(ctx, form)
	if err != nil {
		return "", err
	}
	if chosen.one == "" {
		count, err := chosen.letters.Discard(ctx, chosen.Choice)
		return wording.DiscardLettersDone(chosen.subscriber, count), err
	}
	letter, err := c.DeadLetters.Letter(ctx, chosen.subscriber, chosen.one)
	if err != nil {
		return "", err
	}
	letter.Error = shortened(wording.FirstLine(letter.Error))
	return wording.DiscardLetterDone(chosen.subscriber, letter), c.DeadLetters.Discard(ctx, chosen.subscriber, chosen.one)
}

// maxSaidError is how many characters of an error a message about an action has. The message must fit into a cookie.
const maxSaidError = 200

func shortened(text string) string {
	if runes := []rune(text); len(runes) > maxSaidError {
		return string(runes[:maxSaidError]) + "…"
	}
	return text
}
