package console

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// The fields of the form of a rewind or a skip. The last four hold the plan that a person has confirmed.
const (
	moveTo       = "to"
	moveStream   = "planned_stream"
	moveSequence = "planned_sequence"
	moveLanes    = "planned_lanes"
	moveEvents   = "planned_events"
)

func (c *Console) planMove(ctx context.Context, id string, form url.Values, forwards bool) (operations.MovePreview, error) {
	target, err := wording.ParseMoveTarget(strings.TrimSpace(form.Get(moveTo)))
	if err != nil {
		return operations.MovePreview{}, err
	}
	return c.Subscribers.Plan(ctx, id, target, forwards)
}

// moveFields returns the fields of a plan. The end of the stream moves on, so the form names its sequence instead.
func moveFields(form url.Values, p operations.MovePreview) url.Values {
	to := strings.TrimSpace(form.Get(moveTo))
	if to == "end" {
		to = fmt.Sprintf("sequence:%d", p.To.Sequence)
	}
	return url.Values{
		moveTo: {to}, moveStream: {p.Stream}, moveSequence: {strconv.FormatUint(p.To.Sequence, 10)}, moveLanes: {strconv.Itoa(p.Lanes)},
		moveEvents: {strconv.FormatInt(p.Events, 10)},
	}
}

func (c *Console) planRewind(ctx context.Context, s operations.SubscriberSummary, form url.Values) (plan, error) {
	p, err := c.planMove(ctx, s.Subscriber, form, false)
	if err != nil {
		return plan{}, err
	}
	return plan{Lines: wording.RewindPlan(p), Fields: moveFields(form, p)}, nil
}

func (c *Console) planSkip(ctx context.Context, s operations.SubscriberSummary, form url.Values) (plan, error) {
	p, err := c.planMove(ctx, s.Subscriber, form, true)
	if err != nil {
		return plan{}, err
	}
	return plan{Lines: []string{"This would " + wording.SkipPlan(p) + "."}, Fields: moveFields(form, p)}, nil
}

func (c *Console) rewind(ctx context.Context, id string, form url.Values) (string, error) {
	done, err := c.move(ctx, id, form, false)
	return wording.RewindDone(done), err
}

func (c *Console) skip(ctx context.Context, id string, form url.Values) (string, error) {
	done, err := c.move(ctx, id, form, true)
	return wording.SkipDone(done), err
}

// move plans again, and carries the plan out if it does no more than the one that a person has confirmed.
func (c *Console) move(ctx context.Context, id string, form url.Values, forwards bool) (operations.MovePreview, error) {
	confirmed, err := confirmedMove(form)
	if err != nil {
		return confirmed, err
	}
	present, err := c.planMove(ctx, id, form, forwards)
	if err != nil {
		return present, err
	}
	if changes := moveChanges(confirmed, present); len(changes) > 0 {
		return present, errPlanChanged.With("nothing was done, because the plan has changed since it was shown: %s; look at the plan again",
			strings.Join(changes, ", and "))
	}
	return c.Subscribers.Move(ctx, present)
}

// confirmedMove reads the plan that a person has confirmed.
func confirmedMove(form url.Values) (p operations.MovePreview, err error) {
	sequence, noSequence := strconv.ParseUint(form.Get(moveSequence), 10, 64)
	lanes, noLanes := strconv.Atoi(form.Get(moveLanes))
	events, noEvents := strconv.ParseInt(form.Get(moveEvents), 10, 64)
	if noSequence != nil || noLanes != nil || noEvents != nil {
		return p, errField.With("the form has no plan that was shown; begin again on the page of the subscriber")
	}
	p.Stream, p.To.Sequence, p.Lanes, p.Events = form.Get(moveStream), sequence, lanes, events
	return p, nil
}

// moveChanges says in which ways a plan would do more than the confirmed one. A rewind may read more events again than confirmed, because the
// copies go on meanwhile: the inbox drops what was applied.
func moveChanges(confirmed, present operations.MovePreview) (changes []string) {
	if present.Stream != confirmed.Stream {
		return []string{fmt.Sprintf("the stream is that of %s, not that of %s", printable.Text(present.Stream), printable.Text(confirmed.Stream))}
	}
	farther := present.To.Sequence < confirmed.To.Sequence
	if present.Forwards {
		farther = present.To.Sequence > confirmed.To.Sequence
	}
	if farther {
		changes = append(changes, fmt.Sprintf("the place is at sequence %d, not at %d", present.To.Sequence, confirmed.To.Sequence))
	}
	if present.Lanes > confirmed.Lanes {
		changes = append(changes, fmt.Sprintf("%s would move, not %d", wording.Counted(present.Lanes, "lane"), confirmed.Lanes))
	}
	if present.Forwards && present.Events > confirmed.Events {
		changes = append(changes, fmt.Sprintf("%s would be skipped, not %d", wording.Counted(present.Events, "event"), confirmed.Events))
	}
	return changes
}
