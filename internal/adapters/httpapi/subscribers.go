package httpapi

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// subscriberRoutes serves the requests of `outboxie subscriber` over HTTP.
type subscriberRoutes struct {
	admin  operations.SubscriberAdmin
	bodies *bodies
}

func (s subscriberRoutes) serve(routes gin.IRoutes) {
	routes.GET("/subscribers", handle(s.list))
	routes.POST("/subscribers/:subscriber", s.bodies.read, handle(s.change))
}

func (s subscriberRoutes) list(c *gin.Context) error {
	found, err := s.admin.Subscribers(c.Request.Context())
	return respond(c, ShowSubscribers(found), err)
}

func (s subscriberRoutes) change(c *gin.Context) error {
	in, err := readObject(c)
	if err != nil {
		return err
	}
	asked, err := readChange(c.Param("subscriber"), in)
	if err != nil {
		return err
	}
	changed, err := asked.carryOut(c.Request.Context(), s.admin)
	return respond(c, changed, err)
}

// subscriberChange is the change of a subscriber that a request asks for.
type subscriberChange struct {
	subscriber string
	verb       string
	to         operations.MoveTarget
	lanes      int
	eventType  string
	confirmed  bool
}

// requiredMember has, by verb, the member that the verb needs. Empty: the verb needs no member.
var requiredMember = map[string]string{
	"pause": "", "resume": "", "rewind": "to", "skip": "to", "lanes": "lanes", "ignore": "type", "forget": "", "lift": "",
}

func readChange(subscriber string, in *object) (asked subscriberChange, err error) {
	asked.subscriber = subscriber
	verb, given := in.text("verb")
	need, known := requiredMember[verb]
	if asked.verb = verb; given && !known {
		in.addField("verb", "must be pause, resume, rewind, skip, lanes, ignore, forget or lift")
	}
	in.require("verb")
	if need == "" {
		in.allowOnly("verb", "confirm")
	} else {
		in.allowOnly("verb", "confirm", need)
		in.require(need)
	}
	if text, ok := in.text("to"); ok {
		target, err := wording.ParseMoveTarget(text)
		in.addError(err)
		asked.to = target
	}
	if value, ok := in.members["lanes"]; ok {
		number, err := strconv.Atoi(string(value))
		if asked.lanes = number; err != nil {
			in.addField("lanes", "must be a whole number, not "+jsonType(value))
		}
	}
	if text, ok := in.text("type"); ok {
		if asked.eventType = text; text == "" || !outbox.IsText(text) {
			in.addField("type", "must be a type such as outboxie.order.paid.v1")
		}
	}
	if value, ok := in.members["confirm"]; ok {
		if jsonType(value) != "a boolean" {
			in.addField("confirm", "must be true or false, not "+jsonType(value))
		} else if err := json.Unmarshal(value, &asked.confirmed); err != nil {
			in.addField("confirm", "must be true or false")
		}
	}
	return asked, in.err()
}

// carryOut carries the change out. If the change needs confirmation and has none, carryOut returns only what the change would do.
func (a subscriberChange) carryOut(ctx context.Context, admin operations.SubscriberAdmin) (done SubscriberChanged, err error) {
	done = SubscriberChanged{Subscriber: a.subscriber, Verb: a.verb, Done: true}
	switch a.verb {
	case "pause":
		return done, admin.Pause(ctx, a.subscriber)
	case "resume":
		return done, admin.Resume(ctx, a.subscriber)
	case "lift":
		return done, admin.RemoveTombstone(ctx, a.subscriber)
	case "lanes":
		at, _, err := admin.SetLanes(ctx, a.subscriber, a.lanes)
		done.Sequence, done.Lanes = &at, &a.lanes
		return done, err
	case "rewind", "skip":
		plan, err := admin.Plan(ctx, a.subscriber, a.to, a.verb == "skip")
		if err == nil && a.confirmed {
			plan, err = admin.Move(ctx, plan)
		}
		return ShowMove(plan, a.confirmed), err
	}
	if done.Done = a.confirmed; !a.confirmed {
		return done, nil
	}
	count := 0
	if a.verb == "ignore" {
		count, err = admin.Ignore(ctx, a.subscriber, a.eventType)
		done.Discarded = &count
	} else {
		count, err = admin.Forget(ctx, a.subscriber)
		done.Erased = &count
	}
	return done, err
}

// ShowMove returns the JSON form of a move.
func ShowMove(m operations.MovePreview, done bool) SubscriberChanged {
	shown := SubscriberChanged{
		Subscriber: m.Subscriber, Verb: "rewind", Done: done, Sequence: &m.To.Sequence, Lanes: &m.Lanes, Lowest: &m.Lowest,
		Highest: &m.Highest, Events: &m.Events,
	}
	if m.Forwards {
		shown.Verb = "skip"
	}
	return shown
}

// ShowSubscribers returns the JSON form of subscribers.
func ShowSubscribers(found operations.SubscriberList) Subscribers {
	shown := Subscribers{Subscribers: make([]SubscriberStatus, 0, len(found.All))}
	if found.StreamError != nil {
		shown.StreamTrouble = optional(found.StreamError.Error())
	}
	for _, status := range found.All {
		shown.Subscribers = append(shown.Subscribers, showSubscriber(status))
	}
	return shown
}

func showSubscriber(s operations.SubscriberStatus) SubscriberStatus {
	shown := SubscriberStatus{
		Subscriber: s.Subscriber, Handler: optional(s.Handler), Types: append([]string{}, s.Types...), State: SubscriberState(wording.SubscriberStateOf(s.Overview)),
		ForgottenAt: optionalTime(s.Forgotten), Copies: append([]string{}, s.Copies...), AppliedPerSecond: s.Rate, AppliedAt: optionalTime(s.Applied),
		DeadLetters: s.Dead, WaitingLetters: s.Waiting, FilledEvents: s.FilledEvents, MissedMessages: s.MissedMessages, Lanes: make([]SubscriberLane, 0, len(s.Lanes)),
	}
	if s.Paused {
		shown.PausedSeconds = seconds(s.PausedFor)
	}
	if s.Lag != nil {
		shown.LagEvents, shown.LagSeconds = &s.Lag.Events, seconds(s.Lag.Oldest)
	}
	for n, lane := range s.Lanes {
		of := SubscriberLane{Lane: lane.Lane, Sequence: lane.Sequence, StoredAt: optionalTime(lane.StoredAt), UnmovedSeconds: lane.Idle.Seconds()}
		if n < len(s.MessagesBehind) {
			of.MessagesBehind = &s.MessagesBehind[n]
		}
		shown.Lanes = append(shown.Lanes, of)
	}
	return shown
}

func seconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

// ShowSummaries returns the JSON form of subscribers in the status of the relay.
func ShowSummaries(all []operations.SubscriberSummary) *[]SubscriberSummary {
	shown := make([]SubscriberSummary, len(all))
	for n, s := range all {
		shown[n] = SubscriberSummary{
			Subscriber: s.Subscriber, State: SubscriberState(wording.SubscriberStateOf(s.Overview)), MessagesBehind: s.MessagesBehind, AppliedPerSecond: s.Rate,
			Copies: len(s.Copies), DeadLetters: s.Dead, MissedMessages: s.MissedMessages,
		}
		if s.Paused {
			shown[n].PausedSeconds = seconds(s.PausedFor)
		}
		if s.Stalled > 0 {
			shown[n].StalledSeconds = seconds(s.Stalled)
		}
	}
	return &shown
}
