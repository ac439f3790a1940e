package console

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var (
	errField = fault.New(fault.Invalid, "invalid_field", "a field of the form is wrong")
	// errPlanChanged reports that a plan is not the one any more that a person has confirmed.
	errPlanChanged = fault.New(fault.Conflict, "plan_changed", "the plan has changed since it was shown")
)

// subscriberVerb is a change of a subscriber. Its form has the name of the subscriber in the field "subscriber".
type subscriberVerb struct {
	title     string
	button    string
	final     bool
	forgotten bool // the verb is for forgotten subscribers too
	plan      func(ctx context.Context, s operations.SubscriberSummary, form url.Values) (plan, error)
	do        func(ctx context.Context, id string, form url.Values) (done string, err error)
}

func (c *Console) serveSubscriberActions() {
	for name, verb := range map[string]subscriberVerb{
		"pause":  {title: "Pause a subscriber", button: "Pause", plan: planPause, do: c.pause},
		"resume": {title: "Resume a subscriber", button: "Resume", plan: planResume, do: c.resume},
		"rewind": {title: "Rewind a subscriber", button: "Rewind", plan: c.planRewind, do: c.rewind},
		"skip":   {title: "Skip events of a subscriber", button: "Skip", final: true, plan: c.planSkip, do: c.skip},
		"lanes":  {title: "Change the lanes of a subscriber", button: "Change the lanes", plan: planLanes, do: c.changeLanes},
		"ignore": {title: "Ignore a type of events", button: "Ignore", final: true, plan: planIgnore, do: c.ignore},
		"forget": {title: "Forget a subscriber", button: "Forget", final: true, forgotten: true, plan: planForget, do: c.forget},
		"lift":   {title: "Lift the tombstone of a subscriber", button: "Lift the tombstone", forgotten: true, plan: planLift, do: c.lift},
	} {
		c.actions["subscriber-"+name] = c.subscriberAction(name, verb)
	}
}

func (c *Console) subscriberAction(name string, verb subscriberVerb) action {
	return action{
		title: verb.title, button: verb.button, final: verb.final,
		plan: func(ctx context.Context, form url.Values) (plan, error) {
			s, err := c.findSubscriber(ctx, form.Get("subscriber"))
			if err == nil && !s.Forgotten.IsZero() && !verb.forgotten {
				err = inbox.ErrForgotten.With("subscriber %s was forgotten", printable.Text(s.Subscriber))
			}
			if err != nil {
				return plan{}, remedied(err, form.Get("subscriber"))
			}
			planned, err := verb.plan(ctx, s, form)
			return planned, remedied(err, s.Subscriber)
		},
		do: func(ctx context.Context, form url.Values) (string, error) {
			id, err := subscriberOf(form)
			if err != nil {
				return "", err
			}
			done, err := verb.do(ctx, id, form)
			return done, remedied(err, id)
		},
		back: func(form url.Values) string {
			if id := form.Get("subscriber"); id != "" && name != "lift" { // a lifted subscriber is gone
				return subscriberAddress(id)
			}
			return Path + "/subscribers"
		},
	}
}

func subscriberOf(form url.Values) (string, error) {
	id := form.Get("subscriber")
	if id == "" || !outbox.IsText(id) {
		return "", errField.With("the field subscriber must be the name of a subscriber")
	}
	return id, nil
}

// findSubscriber asks the database, because the newest reading can be a second old.
func (c *Console) findSubscriber(ctx context.Context, id string) (operations.SubscriberSummary, error) {
	if _, err := subscriberOf(url.Values{"subscriber": {id}}); err != nil {
		return operations.SubscriberSummary{}, err
	}
	view, _ := c.Watcher.View()
	all, err := c.Subscribers.Summaries(ctx, view.Relay.Sequence)
	if err != nil {
		return operations.SubscriberSummary{}, err
	}
	at := slices.IndexFunc(all, func(s operations.SubscriberSummary) bool { return s.Subscriber == id })
	if at < 0 {
		return operations.SubscriberSummary{}, errNoSubscriber(id)
	}
	return all[at], nil
}

func planPause(_ context.Context, s operations.SubscriberSummary, _ url.Values) (plan, error) {
	if s.Paused {
		return plan{Nothing: true, Lines: []string{fmt.Sprintf("Subscriber %s is paused already, for %s.", printable.Text(s.Subscriber), wording.Age(s.PausedFor))}}, nil
	}
	return plan{Lines: []string{wording.PausePlan(s.Subscriber)}}, nil
}

func (c *Console) pause(ctx context.Context, id string, _ url.Values) (string, error) {
	return wording.PauseDone(id), c.Subscribers.Pause(ctx, id)
}

func planResume(_ context.Context, s operations.SubscriberSummary, _ url.Values) (plan, error) {
	if !s.Paused {
		return plan{Nothing: true, Lines: []string{fmt.Sprintf("Subscriber %s is not paused.", printable.Text(s.Subscriber))}}, nil
	}
	return plan{Lines: []string{wording.ResumePlan(s.Subscriber)}}, nil
}

func (c *Console) resume(ctx context.Context, id string, _ url.Values) (string, error) {
	return wording.ResumeDone(id), c.Subscribers.Resume(ctx, id)
}

func lanesOf(form url.Values) (int, error) {
	lanes, err := strconv.Atoi(strings.TrimSpace(form.Get("lanes")))
	if err != nil || lanes < 1 || lanes > inbox.MaxLanes {
		reason := fmt.Sprintf("must be a whole number from 1 to %d", inbox.MaxLanes)
		return 0, operations.ErrLaneCount.With("%q lanes: the number %s", form.Get("lanes"), reason).On("lanes", reason)
	}
	return lanes, nil
}

func planLanes(_ context.Context, s operations.SubscriberSummary, form url.Values) (plan, error) {
	lanes, err := lanesOf(form)
	if err == nil && len(s.Lanes) == 0 {
		err = inbox.ErrNotBegun.With("subscriber %s has not begun", printable.Text(s.Subscriber))
	}
	if err != nil {
		return plan{}, err
	}
	return plan{Lines: []string{wording.LanesPlan(s.Subscriber, lanes, len(s.Lanes))}}, nil
}

func (c *Console) changeLanes(ctx context.Context, id string, form url.Values) (string, error) {
	lanes, err := lanesOf(form)
	if err != nil {
		return "", err
	}
	at, before, err := c.Subscribers.SetLanes(ctx, id, lanes)
	return wording.LanesDone(id, lanes, before, at), err
}

func typeOf(form url.Values) (string, error) {
	eventType := form.Get("type")
	if eventType == "" || !outbox.IsText(eventType) {
		const reason = "must be a type such as outboxie.order.paid.v1"
		return "", errField.With("the field type %s", reason).On("type", reason)
	}
	return eventType, nil
}

func planIgnore(_ context.Context, s operations.SubscriberSummary, form url.Values) (plan, error) {
	eventType, err := typeOf(form)
	if err == nil && !slices.Contains(s.Types, eventType) {
		err = inbox.ErrNotWanted.With("subscriber %s does not want events of the type %s", printable.Text(s.Subscriber), printable.Text(eventType))
	}
	if err != nil {
		return plan{}, err
	}
	return plan{Lines: []string{
		"This would " + wording.IgnorePlan(s.Subscriber, eventType) + ".",
		fmt.Sprintf("It has %s, and %s being retried or waiting, of all types. A copy that starts with a handler of the type wants it again.",
			wording.Counted(s.Dead, "dead letter"), wording.Counted(s.Waiting, "letter")),
	}}, nil
}

func (c *Console) ignore(ctx context.Context, id string, form url.Values) (string, error) {
	eventType, err := typeOf(form)
	if err != nil {
		return "", err
	}
	discarded, err := c.Subscribers.Ignore(ctx, id, eventType)
	return wording.IgnoreDone(id, eventType, discarded), err
}

func planForget(_ context.Context, s operations.SubscriberSummary, _ url.Values) (plan, error) {
	if !s.Forgotten.IsZero() {
		return plan{Lines: []string{fmt.Sprintf("Subscriber %s is forgotten already. This erases the rows that an interrupted command has left.", printable.Text(s.Subscriber))}}, nil
	}
	return plan{Lines: []string{
		"This would " + wording.ForgetPlan(s.Subscriber) + ".",
		fmt.Sprintf("It has %s, %s, %s being retried or waiting, and %s at work.", wording.Counted(len(s.Lanes), "lane"),
			wording.Counted(s.Dead, "dead letter"), wording.Counted(s.Waiting, "letter"), copies(len(s.Copies))),
	}}, nil
}

func copies(count int) string {
	if count == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", count)
}

func (c *Console) forget(ctx context.Context, id string, _ url.Values) (string, error) {
	erased, err := c.Subscribers.Forget(ctx, id)
	if err != nil && !errors.Is(err, inbox.ErrNoSubscriber) {
		err = wording.ForgetInterrupted(id, erased, err)
	}
	return wording.ForgetDone(id, erased), err
}

func planLift(_ context.Context, s operations.SubscriberSummary, _ url.Values) (plan, error) {
	if s.Forgotten.IsZero() {
		return plan{}, inbox.ErrNotForgotten.With("subscriber %s is not forgotten", printable.Text(s.Subscriber))
	}
	return plan{Lines: []string{wording.LiftPlan(s.Subscriber)}}, nil
}

func (c *Console) lift(ctx context.Context, id string, _ url.Values) (string, error) {
	return wording.LiftDone(id), c.Subscribers.RemoveTombstone(ctx, id)
}
