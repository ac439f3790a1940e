package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// orderJourney is an order with its events and what became of them.
type orderJourney struct {
	order.Snapshot
	Events []eventJourney
	Unread string // why the effects of subscribers cannot be read; empty: they were read
}

// eventJourney is the way of one event.
type eventJourney struct {
	Type     string
	EventID  string
	Version  int64
	Position int64
	Steps    []journeyStep
	Trace    string // address of the trace; empty: there is no link
}

// journeyStep is one thing that happened to an event, or has not happened yet.
type journeyStep struct {
	Class      string // done, bad or empty
	Text       string
	After      string // time since the commit: 6.9 ms; empty: it has not happened
	Link, Name string // of a page that says more
}

// orderPage is the data of an order's page.
type orderPage struct {
	orderJourney
	Self    string // address of the page
	Changes []orderChange
	Seen    int64  // version of the whole page; its live part may be newer
	Newer   bool   // the order has changed since the whole page was shown
	Notes   []fact // of changes
	Badge   badge  // the status
}

type fact struct{ Name, Value string }

// badge is a word with the class of its look.
type badge struct{ Name, Class string }

// one shows an order.
func (o *orderPages) one(w http.ResponseWriter, r *http.Request) error {
	id, err := order.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	seen, err := o.journeys.get(r.Context(), id, o.read)
	if err != nil {
		return err
	}
	data := orderPage{
		orderJourney: seen, Self: orderAddress(id), Changes: changesOf(seen.Status), Seen: seen.Version, Badge: badge{Name: string(seen.Status)},
	}
	switch seen.Status {
	case order.StatusShipped:
		data.Badge.Class = "good"
	case order.StatusCancelled:
		data.Badge.Class = "bad"
	case order.StatusCreated, order.StatusPaid:
	}
	if version, err := strconv.ParseInt(r.URL.Query().Get("seen"), 10, 64); err == nil {
		data.Newer = version < seen.Version
	}
	for _, note := range []fact{
		{"Payment reference", string(seen.PaymentReference)},
		{"Carrier", string(seen.Carrier)},
		{"Tracking number", string(seen.Tracking)},
		{"Reason of the cancellation", string(seen.CancelReason)},
	} {
		if note.Value != "" {
			data.Notes = append(data.Notes, note)
		}
	}
	return o.show(w, r, "order", http.StatusOK, data)
}

// read reads an order, its events and their effects.
func (o *orderPages) read(ctx context.Context, id order.ID) (orderJourney, error) {
	found, err := o.Orders.Get(ctx, consoleReader, id)
	if err != nil {
		return orderJourney{}, err
	}
	events, err := o.Orders.Events(ctx, consoleReader, id)
	if err != nil {
		return orderJourney{}, err
	}
	ids := make([]string, len(events))
	for n, event := range events {
		ids[n] = event.ID
	}
	journey := orderJourney{Snapshot: found}
	effects, err := o.Effects.Effects(ctx, ids)
	if err != nil { // for example, the database's role of an API without a relay may not read the tables of subscribers
		o.Logger.WarnContext(ctx, "the console cannot read the effects of events", "order_id", string(id), "error", err)
		journey.Unread = o.explain(err)
	}
	of := make(map[string][]operations.Effect)
	for _, effect := range effects {
		of[effect.EventID] = append(of[effect.EventID], effect)
	}
	for _, event := range events {
		shown := newEventJourney(ctx, event, of[event.ID], o.Traces)
		if len(effects) == 0 && journey.Unread == "" {
			shown.Steps = append(shown.Steps, journeyStep{Text: "no subscriber of this database has begun"})
		}
		journey.Events = append(journey.Events, shown)
	}
	return journey, nil
}

func newEventJourney(ctx context.Context, event orders.Event, effects []operations.Effect, traces string) eventJourney {
	journey := eventJourney{
		Type: event.Type, EventID: event.ID, Version: event.Version, Position: int64(event.Position), Trace: traceAddress(ctx, traces, event.Headers),
		Steps: []journeyStep{
			{Class: "done", Text: "committed at " + event.RecordedAt.UTC().Format("2006-01-02 15:04:05.000") + " UTC, together with the order"},
			deliveryStep(event, effects),
		},
	}
	for _, effect := range effects {
		journey.Steps = append(journey.Steps, effectStep(effect, event.RecordedAt))
	}
	return journey
}

// traceAddress returns the address of the trace in which an event was recorded, or "".
func traceAddress(ctx context.Context, traces string, headers map[string]string) string {
	created := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(headers)))
	if traces == "" || !created.HasTraceID() {
		return ""
	}
	return traces + "/trace/" + created.TraceID().String()
}

func deliveryStep(event orders.Event, effects []operations.Effect) journeyStep {
	parked := Path + "/parked"
	switch event.Delivery {
	case orders.Published:
		step := journeyStep{Class: "done", Text: "stored in the stream", After: elapsed(event.RecordedAt, event.PublishedAt)}
		sequence := uint64(0)
		for _, effect := range effects {
			sequence = max(sequence, effect.Sequence)
		}
		if sequence > 0 {
			step.Text += fmt.Sprintf(" at sequence %d", sequence)
		}
		if event.Reason != "" {
			step.Text += "; it was parked before: " + printable.Line(event.Reason)
		}
		return step
	case orders.Passed:
		return journeyStep{Text: "the relay has dealt with it, but the stream does not hold it any more, or the broker does not answer"}
	case orders.Parked:
		return journeyStep{Class: "bad", Text: "parked: " + printable.Line(event.Reason), Link: parked, Name: "See the parking lot"}
	case orders.Discarded:
		return journeyStep{Class: "bad", Text: "discarded by an operator; it was parked: " + printable.Line(event.Reason), Link: parked, Name: "See the parking lot"}
	case orders.Pending:
	}
	return journeyStep{Text: "waits for the relay"}
}

func effectStep(effect operations.Effect, recorded time.Time) journeyStep {
	name := printable.Text(effect.Subscriber)
	reason := ""
	if effect.Error != "" {
		reason = ": " + printable.Line(effect.Error)
	}
	step := journeyStep{Link: Path + "/letters/" + url.PathEscape(effect.Subscriber), Name: "See the dead letters of " + name}
	switch {
	case !effect.AppliedAt.IsZero():
		return journeyStep{Class: "done", Text: name + ": took effect", After: elapsed(recorded, effect.AppliedAt)}
	case effect.Letter == inbox.Dead:
		step.Class, step.Text = "bad", name+": dead"+reason
	case effect.Letter == inbox.Discarded:
		step.Class, step.Text = "bad", name+": discarded by an operator"+reason
	case effect.Letter == inbox.Waiting:
		step.Text = name + ": waits behind an earlier event of the order"
	case effect.Letter != "":
		step.Text = name + ": is tried again" + reason
	case !effect.Wanted:
		return journeyStep{Text: name + ": does not want events of this type"}
	default:
		return journeyStep{Text: name + ": no effect yet"}
	}
	return step
}

// elapsed returns the time from one moment to another: 6.9 ms, 120 ms, 4.2 s, 3m12s. Clocks differ, so a time below 0 counts as 0.
func elapsed(from, to time.Time) string {
	d := max(to.Sub(from), 0)
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return wording.Age(d)
}
