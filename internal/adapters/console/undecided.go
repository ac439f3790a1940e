package console

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// maxUndecided is how many parked events or letters a page lists.
const maxUndecided = 100

// The fields of the forms that choose events.
const (
	choiceGroup      = "group"
	choiceType       = "type"
	choiceAggregate  = "aggregate"
	choiceAll        = "all"
	choicePosition   = "position"
	choiceEvent      = "event"
	choiceSubscriber = "subscriber"
)

// errChoice reports that a form does not say which events are chosen.
var errChoice = fault.New(fault.Invalid, "invalid_choice", "the form does not say which events are chosen")

// undecidedChoice is which events a form chooses: the one event that the field one names, or all, or those of the Choice.
type undecidedChoice struct {
	operations.Choice
	all bool
	one string
}

// onlyAggregate reports whether the form chooses by nothing but the aggregate.
func (c undecidedChoice) onlyAggregate() bool {
	return c.Choice != operations.Choice{} && c.Choice == operations.Choice{Aggregate: c.Aggregate}
}

// readUndecided reads the fields of a form. Empty fields are not given. one is the field that names one event; empty: the form has none.
func readUndecided(form url.Values, one string) (chosen undecidedChoice, err error) {
	for _, name := range []string{choiceGroup, choiceType, choiceAggregate, choiceAll, choicePosition, choiceEvent} {
		if values := form[name]; len(values) > 1 {
			return chosen, errChoice.With("the field %s comes %d times", name, len(values))
		}
		if !outbox.IsText(form.Get(name)) {
			return chosen, errChoice.With("the field %s is not text", name)
		}
	}
	chosen.Group, chosen.Type = form.Get(choiceGroup), form.Get(choiceType)
	if text := form.Get(choiceAggregate); text != "" {
		if chosen.Aggregate, err = wording.ParseAggregate(text); err != nil {
			return chosen, err
		}
	}
	ways, names := 0, "all, or some of group, type and aggregate"
	if one != "" {
		chosen.one, names = form.Get(one), one+", "+names
	}
	switch form.Get(choiceAll) {
	case "":
	case "true":
		chosen.all = true
	default:
		return chosen, errChoice.With("the field all must be true or empty")
	}
	for _, way := range []bool{chosen.all, chosen.one != "", chosen.Choice != operations.Choice{}} {
		if way {
			ways++
		}
	}
	switch {
	case ways == 0:
		return chosen, errChoice.With("nothing is chosen: choose either %s", names)
	case ways > 1:
		return chosen, errChoice.With("the choice is not clear: choose either %s", names)
	}
	return chosen, nil
}

// undecidedVerbs are the actions that the forms of a page lead to.
type undecidedVerbs struct {
	Retry     string // name of the action
	RetryWord string // Retry, or Redrive
	Discard   string // name of the action
}

// undecidedGroups is what a page shows of groups, with the form that chooses.
type undecidedGroups struct {
	undecidedVerbs
	Subscriber string // empty: the events are parked
	Summary    string
	None       string // if there are no groups
	Age        string // of groups that were counted for an earlier viewer; empty: they are new
	Rows       []groupRow
}

// decisions is what a page shows of groups to an operator.
type decisions struct {
	undecidedGroups
	MayWrite bool // with the forms that decide
}

func newDecisions(v view, groups undecidedGroups) decisions { return decisions{groups, v.MayWrite} }

type groupRow struct {
	operations.Group
	FirstAge, LastAge string
	TypeNames         string
	AllTypes          string // all types that the group lists
	Example           string
	ExampleLink       string // path of the page of the example
}

// newUndecidedGroups returns what a page shows of groups. link returns the path of the page of an event.
func newUndecidedGroups(groups operations.Groups, age time.Duration, now time.Time, link func(operations.UndecidedEvent) string) undecidedGroups {
	shown := undecidedGroups{Summary: wording.DescribeGroups(groups)}
	if age > 0 {
		shown.Age = wording.Age(age)
	}
	for _, g := range groups.List {
		row := groupRow{
			Group: g, FirstAge: wording.Since(now, g.First), LastAge: wording.Since(now, g.Last), TypeNames: wording.GroupTypes(g),
			Example: printable.Text(g.Example.EventID), ExampleLink: link(g.Example),
		}
		types := make([]string, len(g.Types))
		for i, name := range g.Types {
			types[i] = printable.Text(name)
		}
		row.AllTypes = strings.Join(types, ", ")
		shown.Rows = append(shown.Rows, row)
	}
	return shown
}

// linkToEvent returns the path of an event's page.
func linkToEvent(position outbox.Position) string { return fmt.Sprintf("%s/events/%d", Path, position) }

// describeReadingAge says how old a reading is, and why there is no newer one. bad: the newest reading failed, or there is none.
func describeReadingAge(view operations.View, now time.Time) (text string, bad bool) {
	switch {
	case view.Err != nil && view.At.IsZero():
		return fmt.Sprintf("The numbers are not known, because the state cannot be read: %s.", printable.Line(view.Err.Error())), true
	case view.Err != nil:
		return fmt.Sprintf("The numbers are %s old, because the state cannot be read: %s.", wording.Age(now.Sub(view.At)), printable.Line(view.Err.Error())), true
	case view.At.IsZero():
		return "The numbers are not known yet. Show the page anew in a moment.", true
	}
	return fmt.Sprintf("Read %s ago.", wording.Age(now.Sub(view.At))), false
}

// databaseNow returns the time by the clock of the database, as far as the reading shows it.
func databaseNow(view operations.View, now time.Time) time.Time {
	if view.At.IsZero() || view.Relay.Now.IsZero() {
		return now
	}
	return view.Relay.Now.Add(now.Sub(view.At))
}
