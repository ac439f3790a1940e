package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// choice has the flags that choose undecided events. An undecided event is a dead letter, or the first parked event of an aggregate.
type choice struct {
	group, eventType, aggregate string
	all, yes, asJSON            bool
}

func (c *choice) addFlags(flags *pflag.FlagSet, all string) {
	flags.StringVar(&c.group, "group", "", "those that failed for the reason of this `GROUP`, as --groups shows it")
	flags.StringVar(&c.eventType, "type", "", "those of this `TYPE`, such as outboxie.order.paid.v1")
	flags.StringVar(&c.aggregate, "aggregate", "", "`TYPE/ID` of an aggregate, or an order's ID")
	flags.BoolVar(&c.all, "all", false, all)
	flags.BoolVar(&c.yes, "yes", false, "really do it")
	flags.BoolVar(&c.asJSON, "json", false, "print JSON")
}

// some reports whether the flags choose by a property of events.
func (c *choice) some() bool { return c.group != "" || c.eventType != "" || c.aggregate != "" }

// read returns the choice of the flags.
func (c *choice) read() (operations.Choice, error) {
	chosen := operations.Choice{Group: c.group, Type: c.eventType}
	if c.aggregate == "" {
		return chosen, nil
	}
	key, err := wording.ParseAggregate(c.aggregate)
	chosen.Aggregate = key
	return chosen, err
}

// decision is what a command does with the chosen events.
type decision struct {
	thing    string // the noun for the events in the output: dead letter
	groups   string // the command that lists the groups
	change   func(ctx context.Context, choice operations.Choice) (int, error)
	final    bool // the change needs --yes for a single event too
	readable bool // the change skips messages that are not readable events
	done     func(changed int) string
}

// decide prints how many events are chosen, and changes them. Several events need --yes.
func (p *program) decide(ctx context.Context, c choice, undecided operations.UndecidedEventsAdmin, d decision) error {
	choice, err := c.read()
	if err != nil {
		return err
	}
	found, err := undecided.Count(ctx, choice)
	if err != nil {
		return err
	}
	if d.readable {
		found.Events -= found.Unreadable
	}
	if found.Events == 0 || !c.yes && (d.final || found.Events > 1) {
		if err := p.sayDecision(c, d, found, -1); err != nil || found.Events == 0 {
			return err
		}
		return errUnconfirmed
	}
	changed, err := d.change(ctx, choice)
	if err != nil {
		return err
	}
	return p.sayDecision(c, d, found, changed)
}

// sayDecision prints how many events were found and changed. changed is -1 if the command has changed nothing yet.
func (p *program) sayDecision(c choice, d decision, found operations.ChoiceCount, changed int) error {
	if c.asJSON {
		return printJSON(p.stdout, httpapi.Decision{Chosen: found.Events, Behind: found.EventsBehind, Changed: max(changed, 0)})
	}
	if c.all && !d.final {
		_, err := fmt.Fprint(p.stdout, d.done(max(changed, 0)))
		return err
	}
	text := wording.DescribeChoice(found, d.thing)
	if found.Events == 0 {
		_, err := fmt.Fprintf(p.stdout, "%s To list the groups: %s\n", text, d.groups)
		return err
	}
	text += "\n"
	if changed >= 0 {
		text += d.done(changed)
	}
	_, err := fmt.Fprint(p.stdout, text)
	return err
}

// printGroups prints the groups, and more as the last line. If there are no groups, printGroups prints only the text in none.
func printGroups(out io.Writer, groups operations.Groups, now time.Time, none, more string) error {
	if groups.All == 0 {
		_, err := fmt.Fprintln(out, none)
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "GROUP\tEVENTS\tBEHIND\tFIRST\tLAST\tTYPE\tEXAMPLE\tREASON")
	for _, g := range groups.List {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s ago\t%s ago\t%s\t%s\t%s\n", g.ID, g.Events, g.EventsBehind, wording.Age(now.Sub(g.First)), wording.Age(now.Sub(g.Last)),
			wording.GroupTypes(g), printable.Text(g.Example.EventID), printable.Line(g.Pattern))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "\n"+wording.DescribeGroups(groups)+"\n"+more)
	return err
}
