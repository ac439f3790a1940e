package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	parkedPath    = Path + "/parked"
	parkedRedrive = "parked-redrive"
	parkedDiscard = "parked-discard"
	parkedGroups  = "" // the name of the groups
)

// parkedPage is the data of the page of the parking lot.
type parkedPage struct {
	Groups     undecidedGroups
	Rows       []parkedRow
	Total      string // how many events wait; empty: not known
	NotShown   int64
	Reading    string
	ReadingBad bool
	Redriving  bool // one of the events is being redriven
}

type parkedRow struct {
	relay.ParkedEvent
	Link   string
	Age    string
	Parked bool // somebody can decide about it
}

func (c *Console) serveParked() {
	shared := newSharedGroups(c.closed)
	c.get("/parked", func(w http.ResponseWriter, r *http.Request) error {
		page, err := c.newParkedPage(r.Context(), shared)
		if err != nil {
			return err
		}
		return c.show(w, r, "parked", http.StatusOK, page)
	})
	back := func(url.Values) string { return parkedPath }
	c.actions[parkedRedrive] = action{
		title: "Redrive parked events", button: "Redrive", counted: true, back: back, plan: c.planRedrive,
		do: func(ctx context.Context, form url.Values) (string, error) {
			defer shared.forget(parkedGroups)
			return c.redrive(ctx, form)
		},
	}
	c.actions[parkedDiscard] = action{
		title: "Discard parked events for ever", button: "Discard for ever", final: true, counted: true, back: back, plan: c.planDiscardParked,
		do: func(ctx context.Context, form url.Values) (string, error) {
			defer shared.forget(parkedGroups)
			return c.discardParked(ctx, form)
		},
	}
}

func (c *Console) newParkedPage(ctx context.Context, shared *sharedGroups) (parkedPage, error) {
	groups, age, err := shared.read(ctx, parkedGroups, c.Parked.Groups)
	if err != nil {
		return parkedPage{}, err
	}
	events, err := c.Parking.Waiting(ctx, maxUndecided)
	if err != nil {
		return parkedPage{}, err
	}
	view, now := c.recentView(ctx), time.Now()
	clock := databaseNow(view, now)
	page := parkedPage{Groups: newUndecidedGroups(groups, age, clock, func(u operations.UndecidedEvent) string { return linkToEvent(u.Position) })}
	page.Groups.None = wording.NothingParked
	page.Groups.undecidedVerbs = undecidedVerbs{Retry: parkedRedrive, RetryWord: "Redrive", Discard: parkedDiscard}
	page.Reading, page.ReadingBad = describeReadingAge(view, now)
	if !view.At.IsZero() {
		page.Total = wording.ParkedTotal(view.Relay.ParkedEvents, view.Relay.ParkedAggregates)
		page.NotShown = max(0, view.Relay.ParkedEvents-int64(len(events)))
	}
	for _, event := range events {
		page.Redriving = page.Redriving || event.State == relay.Redrive
		page.Rows = append(page.Rows, parkedRow{
			ParkedEvent: event, Link: linkToEvent(event.Position), Age: wording.Since(clock, event.ParkedAt), Parked: event.State == relay.Parked,
		})
	}
	return page, nil
}

func (c *Console) planRedrive(ctx context.Context, form url.Values) (plan, error) {
	chosen, err := readUndecided(form, "")
	if err != nil {
		return plan{}, err
	}
	found, err := c.Parked.Count(ctx, chosen.Choice)
	if err != nil {
		return plan{}, err
	}
	planned := plan{Lines: []string{wording.DescribeChoice(found, wording.ParkedEvent)}, Nothing: found.Events == 0, Count: found.Events + found.EventsBehind}
	if !planned.Nothing {
		planned.Lines = append(planned.Lines, "The leader publishes the chosen events and those behind them soon, in order. An event that the broker still "+
			"cannot take is parked again.")
	}
	return planned, nil
}

// redrive asks for the redrive of the events of an aggregate, of all, or of those that the form chooses by the first event of each aggregate.
func (c *Console) redrive(ctx context.Context, form url.Values) (string, error) {
	chosen, err := readUndecided(form, "")
	if err != nil {
		return "", err
	}
	var key *outbox.Key
	switch {
	case chosen.onlyAggregate():
		key = &chosen.Aggregate
	case !chosen.all:
		count, err := c.Parked.Retry(ctx, chosen.Choice)
		return wording.RedriveChosenDone(count) + ".", err
	}
	count, err := c.Parking.Redrive(ctx, key)
	if err == nil && count == 0 {
		return wording.NothingParked, nil
	}
	return wording.RedriveDone(count) + ".", err
}

func (c *Console) planDiscardParked(ctx context.Context, form url.Values) (plan, error) {
	chosen, err := readUndecided(form, choicePosition)
	if err != nil {
		return plan{}, err
	}
	if chosen.one != "" {
		return c.planDiscardAt(ctx, chosen.one)
	}
	found, err := c.Parked.Count(ctx, chosen.Choice)
	if err != nil {
		return plan{}, err
	}
	planned := plan{Lines: []string{wording.DescribeChoice(found, wording.ParkedEvent)}, Nothing: found.Events == 0, Count: found.Events}
	if !planned.Nothing {
		planned.Lines = append(planned.Lines, "The chosen events never reach any subscriber. The events behind stay parked until they are redriven.")
	}
	return planned, nil
}

// planDiscardAt describes the event at a position. If the log has lost the event, nobody can redrive it, but it can be discarded.
func (c *Console) planDiscardAt(ctx context.Context, text string) (plan, error) {
	position, err := parkedPosition(text)
	if err != nil {
		return plan{}, err
	}
	found, err := c.Relay.List(ctx, operations.EventFilter{Position: position, Limit: 1})
	switch {
	case err != nil:
		return plan{}, err
	case len(found) == 0:
		return plan{Lines: []string{fmt.Sprintf("The log has no event at position %d. If the parking lot still has it, it is discarded.", position)}}, nil
	case found[0].State == string(relay.Parked):
		return plan{Text: wording.DescribeParked(found[0])}, nil
	}
	return plan{}, relay.ErrNotParked.With("the event at position %d is %s, not %s", position, found[0].State, relay.Parked)
}

func (c *Console) discardParked(ctx context.Context, form url.Values) (string, error) {
	chosen, err := readUndecided(form, choicePosition)
	if err != nil {
		return "", err
	}
	if chosen.one == "" {
		count, err := c.Parked.Discard(ctx, chosen.Choice)
		return wording.DiscardParkedDone(count) + ".", err
	}
	position, err := parkedPosition(chosen.one)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Done. The event at position %d is discarded.", position), c.Parking.Discard(ctx, position)
}

// parkedPosition reads a position in the log.
func parkedPosition(text string) (outbox.Position, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return 0, errChoice.With("%q is not a position: it must be a whole number from 1", text)
	}
	return outbox.Position(number), nil
}
