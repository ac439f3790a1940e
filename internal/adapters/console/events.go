package console

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// maxEvents is how many events a page of the log shows.
const maxEvents = 50

var (
	errEventType     = fault.New(fault.Invalid, "invalid_event_type", "the type must be one such as outboxie.order.paid.v1")
	errEventSince    = fault.New(fault.Invalid, "invalid_since", "not a time")
	errEventPosition = fault.New(fault.Invalid, "invalid_position", "not a position")
	errNoEvent       = fault.New(fault.NotFound, "no_such_event", "the log has no such event")
)

// eventsPage is the data of the page with the log.
type eventsPage struct {
	Aggregate, Type, Since string // values of the form
	States                 []choiceOfState
	Events                 []eventRow
	Now                    time.Time
	Filtered               bool   // some events may be excluded
	Newest                 string // address of the first page; empty: this is the first page
	Older                  string // address of the next page; empty: there are no more events
}

// choiceOfState is a state in the form.
type choiceOfState struct {
	Name   string
	Chosen bool
}

// eventRow is an event, and whether its state is the good end, or one that needs a person.
type eventRow struct {
	operations.ListedEvent
	Good, Bad bool
}

func newEventRow(event operations.ListedEvent) eventRow {
	return eventRow{
		ListedEvent: event,
		Good:        event.State == operations.Published || event.State == string(relay.Redriven),
		Bad:         event.State == operations.Misplaced || event.State == string(relay.Parked),
	}
}

func (c *Console) serveEvents() {
	c.get("/events", func(w http.ResponseWriter, r *http.Request) error {
		query := r.URL.Query()
		filter, err := readEventFilter(query)
		if err != nil {
			return err
		}
		found, err := c.Relay.List(r.Context(), filter)
		if err != nil {
			return err
		}
		return c.show(w, r, "events", http.StatusOK, newEventsPage(query, filter, found, time.Now()))
	})
	c.serveEvent()
}

// readEventFilter reads the fields of the form. An empty field excludes no event.
func readEventFilter(query url.Values) (filter operations.EventFilter, err error) {
	filter.Limit = maxEvents
	if text := query.Get("aggregate"); text != "" {
		if filter.Aggregate, err = wording.ParseAggregate(text); err != nil {
			return filter, err
		}
	}
	if filter.Type = query.Get("type"); !outbox.IsText(filter.Type) {
		return filter, errEventType
	}
	if text := query.Get("since"); text != "" {
		if filter.Since, err = readTime(text); err != nil {
			return filter, err
		}
	}
	if text := query.Get("state"); text != "" {
		if filter.State, err = wording.ParseEventState(text); err != nil {
			return filter, err
		}
	}
	if text := query.Get("before"); text != "" {
		filter.Before, err = readPosition(text)
	}
	return filter, err
}

func readTime(text string) (time.Time, error) {
	if at, valid := parseTime(text); valid {
		return at, nil
	}
	return time.Time{}, errEventSince.With("since is %q; it must be a time such as 2026-11-24T03:00:00Z or 2026-11-24T03:00 (UTC)", text)
}

func readPosition(text string) (outbox.Position, error) {
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 1 {
		return 0, errEventPosition.With("%q is not a position in the log: it must be a whole number above 0", text)
	}
	return outbox.Position(number), nil
}

func newEventsPage(query url.Values, filter operations.EventFilter, found []operations.ListedEvent, now time.Time) eventsPage {
	shown := eventsPage{Aggregate: query.Get("aggregate"), Type: filter.Type, Now: now}
	for _, event := range found {
		shown.Events = append(shown.Events, newEventRow(event))
	}
	if !filter.Since.IsZero() {
		shown.Since = filter.Since.Format("2006-01-02T15:04:05")
	}
	for _, state := range operations.EventStates() {
		shown.States = append(shown.States, choiceOfState{Name: state, Chosen: state == filter.State})
	}
	given := make(url.Values)
	for _, field := range []string{"aggregate", "type", "since", "state"} {
		if value := query.Get(field); value != "" {
			given.Set(field, value)
		}
	}
	shown.Filtered = len(given) > 0 || filter.Before != 0
	if filter.Before != 0 {
		shown.Newest = eventsAddress(given)
	}
	if len(found) == filter.Limit {
		given.Set("before", strconv.FormatInt(int64(found[len(found)-1].Position), 10))
		shown.Older = eventsAddress(given)
	}
	return shown
}

func eventsAddress(query url.Values) string {
	if len(query) == 0 {
		return Path + "/events"
	}
	return Path + "/events?" + query.Encode()
}
