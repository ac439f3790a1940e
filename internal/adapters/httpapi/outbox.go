package httpapi

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	defaultEvents = 50
	defaultParked = 100
	maxEvents     = 1000
)

// outboxRoutes serves the requests of `outboxie outbox` over HTTP.
type outboxRoutes struct {
	inspector   operations.RelayInspector
	parking     operations.ParkingAdmin
	subscribers operations.SubscriberAdmin // nil: the status has no subscribers
	bodies      *bodies
	logger      *slog.Logger
}

func (o outboxRoutes) serve(routes gin.IRoutes) {
	routes.GET("/outbox/status", handle(o.status))
	routes.GET("/outbox/events", handle(o.events))
	routes.GET("/outbox/parked", handle(o.parked))
	routes.POST("/outbox/redrive", o.bodies.read, handle(o.redrive))
}

func (o outboxRoutes) status(c *gin.Context) error {
	status, err := o.inspector.Status(c.Request.Context())
	if err != nil {
		return err
	}
	shown := ShowStatus(status)
	if o.subscribers != nil {
		// The status of the relay is needed most when something fails, so it does not depend on the subscribers.
		if all, err := o.subscribers.Summaries(c.Request.Context(), status.Sequence); err == nil {
			shown.Subscribers = ShowSummaries(all)
		} else {
			o.logger.WarnContext(c.Request.Context(), "cannot read the subscribers for the status of the relay", "error", err)
		}
	}
	return respond(c, shown, nil)
}

func (o outboxRoutes) events(c *gin.Context) error {
	in := parametersOf(c, "aggregate", "type", "since", "state", "limit")
	filter := operations.EventFilter{Since: in.time("since"), Limit: in.limit(defaultEvents, maxEvents), Payloads: true}
	in.ifGiven("aggregate", func(text string) {
		key, err := wording.ParseAggregate(text)
		in.addParameterError(err)
		filter.Aggregate = key
	})
	in.ifGiven("type", func(text string) {
		if !outbox.IsText(text) || text == "" {
			in.addParameter("type", "must be a type such as outboxie.order.paid.v1")
		}
		filter.Type = text
	})
	in.ifGiven("state", func(text string) {
		state, err := wording.ParseEventState(text)
		in.addParameterError(err)
		filter.State = state
	})
	if err := in.err(); err != nil {
		return err
	}
	found, err := o.inspector.List(c.Request.Context(), filter)
	return respond(c, ShowEvents(found), err)
}

func (o outboxRoutes) parked(c *gin.Context) error {
	in := parametersOf(c, "limit")
	limit := in.limit(defaultParked, maxEvents)
	if err := in.err(); err != nil {
		return err
	}
	waiting, err := o.parking.Waiting(c.Request.Context(), limit)
	if err != nil {
		return err
	}
	status, err := o.inspector.Status(c.Request.Context())
	return respond(c, ShowParked(waiting, status), err)
}

func (o outboxRoutes) redrive(c *gin.Context) error {
	in, err := readObject(c)
	if err != nil {
		return err
	}
	key, err := readRedrive(in)
	if err != nil {
		return err
	}
	count, err := o.parking.Redrive(c.Request.Context(), key)
	return respond(c, Redriven{Redriven: count}, err)
}

// readRedrive returns the aggregate to redrive, or nil for all.
func readRedrive(in *object) (*outbox.Key, error) {
	in.allowOnly("aggregate", "all")
	_, one := in.members["aggregate"]
	all, everything := in.members["all"]
	if everything && string(all) != "true" {
		in.addField("all", "must be true, or left out")
	}
	if one == everything {
		in.addField("", "needs either aggregate or all")
	}
	var key *outbox.Key
	if text, ok := in.text("aggregate"); ok {
		parsed, err := wording.ParseAggregate(text)
		in.addError(err)
		key = &parsed
	}
	return key, in.err()
}

// ShowStatus returns the JSON form of a status, without the subscribers.
func ShowStatus(s operations.RelayStatus) OutboxStatus {
	shown := OutboxStatus{
		State: OutboxStatusState(wording.StateOf(s)), Relay: s.Relay, Now: s.Now.UTC(), Position: int64(s.Position), SavedAt: optionalTime(s.SavedAt),
		Stream: s.Stream, StreamSequence: s.Sequence, LastPosition: int64(s.LastPosition), PurgedTo: int64(s.PurgedTo),
		Unpublished: s.Unpublished, OldestUnpublishedAt: optionalTime(s.Oldest), ParkedEvents: s.ParkedEvents, ParkedAggregates: s.ParkedAggregates,
		Misplaced: s.Misplaced, NextPosition: int64(s.NextPosition),
		HaltedInstances: make([]HaltedInstance, 0, len(s.HaltedInstances)),
	}
	for _, h := range s.HaltedInstances {
		shown.HaltedInstances = append(shown.HaltedInstances, HaltedInstance{
			Instance: h.Instance, Reason: string(h.Reason), Detail: h.Detail, Since: h.Since.UTC(),
		})
	}
	if l := s.Leader; l != nil {
		shown.Leader = &OutboxLeader{Holder: l.Holder, Token: l.Token, Since: l.Since.UTC(), Until: l.Until.UTC()}
	}
	if h := s.Halt; h != nil {
		shown.Halt = &OutboxHalt{Reason: string(h.Reason), Detail: h.Detail, Meaning: wording.HaltMeaning(h.Reason), Since: h.Since.UTC()}
	}
	if w := s.OldestTransaction; w != nil {
		shown.OpenWriter = &OutboxWriter{
			Pid: w.Session, GID: w.Prepared, Application: w.Application, State: w.State, Query: w.Query, Since: optionalTime(w.Since),
		}
	}
	return shown
}

// optionalTime returns nil for the zero time.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// ShowEvents returns the JSON form of events in the log.
func ShowEvents(entries []operations.ListedEvent) []OutboxEvent {
	list := make([]OutboxEvent, 0, len(entries))
	for _, e := range entries {
		shown := OutboxEvent{
			Position: int64(e.Position), EventID: e.ID, State: OutboxEventState(e.State), Reason: optional(e.Reason),
			AggregateType: e.Key.Type, AggregateID: e.Key.ID, AggregateVersion: e.Version,
			Type: e.Type, Subject: e.Subject, RecordedAt: e.RecordedAt.UTC(), Payload: showPayload(e.Payload), PayloadOmitted: optional(e.Omitted),
		}
		if len(e.Headers) > 0 {
			shown.Headers = &e.Headers
		}
		list = append(list, shown)
	}
	return list
}

// showPayload returns the payload unchanged, or nil if there is none. A payload that is nested too deep for package json becomes a string.
func showPayload(payload []byte) json.RawMessage {
	if payload == nil || json.Valid(payload) {
		return payload
	}
	shown, _ := json.Marshal(string(payload)) // a string cannot fail
	return shown
}

// ShowParked returns the JSON form of the listed parked events, with the number of all parked events.
func ShowParked(events []relay.ParkedEvent, all operations.RelayStatus) ParkedEvents {
	shown := ParkedEvents{Waiting: all.ParkedEvents, Aggregates: all.ParkedAggregates, Events: make([]ParkedEvent, 0, len(events))}
	for _, e := range events {
		shown.Events = append(shown.Events, ParkedEvent{
			Position: int64(e.Position), EventID: e.EventID, AggregateType: e.Key.Type, AggregateID: e.Key.ID, Type: e.Type,
			State: ParkedEventState(e.State), Reason: e.Reason, ParkedAt: e.ParkedAt.UTC(), ChangedAt: e.ChangedAt.UTC(),
		})
	}
	return shown
}
