package httpapi

import (
	"context"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// undecidedRoutes serves, over HTTP, the commands of `outboxie outbox` and `outboxie subscriber` for groups of undecided events. See
// operations.UndecidedEventsAdmin.
type undecidedRoutes struct {
	parked      operations.UndecidedEventsAdmin
	deadLetters operations.DeadLetterFinder
	bodies      *bodies
}

func (u undecidedRoutes) serve(routes gin.IRoutes) {
	if u.parked != nil {
		u.serveAt(routes, "/outbox/parked", "redrive", func(*gin.Context) (operations.UndecidedEventsAdmin, error) { return u.parked, nil })
	}
	if u.deadLetters != nil {
		u.serveAt(routes, "/subscribers/:subscriber/letters", "retry", func(c *gin.Context) (operations.UndecidedEventsAdmin, error) {
			return u.deadLetters.ForSubscriber(c.Request.Context(), c.Param("subscriber"))
		})
	}
}

// serveAt serves the routes for the events that find returns.
func (u undecidedRoutes) serveAt(routes gin.IRoutes, path, retry string, find func(c *gin.Context) (operations.UndecidedEventsAdmin, error)) {
	routes.GET(path+"/groups", handle(func(c *gin.Context) error {
		events, err := find(c)
		if err != nil {
			return err
		}
		groups, err := events.Groups(c.Request.Context())
		return respond(c, ShowGroups(groups), err)
	}))
	routes.POST(path+"/"+retry, u.bodies.read, handle(func(c *gin.Context) error {
		return decide(c, find, operations.UndecidedEventsAdmin.Retry)
	}))
	routes.POST(path+"/discard", u.bodies.read, handle(func(c *gin.Context) error {
		return decide(c, find, operations.UndecidedEventsAdmin.Discard)
	}))
}

// decide counts the chosen events, and changes them unless the request is a dry run.
func decide(
	c *gin.Context, find func(c *gin.Context) (operations.UndecidedEventsAdmin, error),
	change func(events operations.UndecidedEventsAdmin, ctx context.Context, choice operations.Choice) (int, error),
) error {
	in, err := readObject(c)
	if err != nil {
		return err
	}
	choice, dry, err := readChoice(in)
	if err != nil {
		return err
	}
	events, err := find(c)
	if err != nil {
		return err
	}
	chosen, err := events.Count(c.Request.Context(), choice)
	answer := Decision{Chosen: chosen.Events, Behind: chosen.EventsBehind}
	if err == nil && !dry {
		answer.Changed, err = change(events, c.Request.Context(), choice)
	}
	return respond(c, answer, err)
}

// readChoice returns which events are chosen, and whether the request is a dry run.
func readChoice(in *object) (choice operations.Choice, dry bool, err error) {
	in.allowOnly("group", "type", "aggregate", "all", "dry_run")
	given := 0
	for name, into := range map[string]*string{"group": &choice.Group, "type": &choice.Type} {
		if text, ok := in.text(name); ok {
			if text == "" || !outbox.IsText(text) {
				in.addField(name, "must not be empty")
			}
			*into = text
		}
	}
	if text, ok := in.text("aggregate"); ok {
		key, err := wording.ParseAggregate(text)
		in.addError(err)
		choice.Aggregate = key
	}
	for _, name := range []string{"group", "type", "aggregate"} {
		if _, has := in.members[name]; has {
			given++
		}
	}
	all, everything := in.members["all"]
	if everything && string(all) != "true" {
		in.addField("all", "must be true, or left out")
	}
	if everything == (given > 0) {
		in.addField("", "needs either all, or at least one of group, type and aggregate")
	}
	if only, has := in.members["dry_run"]; has {
		if dry = string(only) == "true"; !dry && string(only) != "false" {
			in.addField("dry_run", "must be true or false")
		}
	}
	return choice, dry, in.err()
}

// ShowGroups returns the JSON form of groups.
func ShowGroups(groups operations.Groups) FailureGroups {
	shown := FailureGroups{Events: groups.Events, MoreEvents: groups.More, AllGroups: groups.All, Groups: make([]FailureGroup, 0, len(groups.List))}
	for _, g := range groups.List {
		example := FailureExample{
			EventID: g.Example.EventID, Reason: g.Example.Reason, AggregateType: optional(g.Example.Key.Type), AggregateID: optional(g.Example.Key.ID),
			Type: optional(g.Example.Type),
		}
		if g.Example.Position > 0 {
			position := int64(g.Example.Position)
			example.Position = &position
		}
		shown.Groups = append(shown.Groups, FailureGroup{
			Group: g.ID, Pattern: g.Pattern, Events: g.Events, Behind: g.EventsBehind, FirstAt: g.First.UTC(), LastAt: g.Last.UTC(),
			Types: append([]string{}, g.Types...), Example: example,
		})
	}
	return shown
}
