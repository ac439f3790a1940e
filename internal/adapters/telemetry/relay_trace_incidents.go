package telemetry

import (
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxIncidents is how many incidents are kept, and so how many events a span gets at most.
	maxIncidents = 32
	// sameIncidentWithin is how long a repeat counts as the same incident. A repeat more than ten seconds later is a new entry.
	sameIncidentWithin = 10 * time.Second
)

// incidents keeps the latest incidents that delayed this instance's relay, or ended a delay. Each message that waited during an incident
// gets it as an event of its span. An incident concerns all messages, because the relay publishes one batch after the other.
type incidents struct {
	recording sync.WaitGroup // the goroutine that records the spans of the last long batch; the next batch waits for it
	mu        sync.Mutex
	list      incidentList
}

// incident is one thing that happened to the relay, once or several times in a row.
type incident struct {
	name, detail string
	attributes   []attribute.KeyValue
	first, last  time.Time
	times        int
}

// add adds an incident that lasted from since to now. A repeat extends the last incident.
func (h *incidents) add(name, detail string, since time.Time, attributes ...attribute.KeyValue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if end := len(h.list) - 1; end >= 0 {
		if latest := &h.list[end]; latest.name == name && latest.detail == detail && since.Sub(latest.last) < sameIncidentWithin {
			latest.last, latest.times = now, latest.times+1
			return
		}
	}
	if len(h.list) == maxIncidents {
		h.list = slices.Delete(h.list, 0, 1)
	}
	h.list = append(h.list, incident{name: name, detail: detail, attributes: attributes, first: since, last: now, times: 1})
}

// soFar returns a copy of the incidents up to now.
func (h *incidents) soFar() incidentList {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

type incidentList []incident

// record adds an event to span for each incident since the span's start.
func (h incidentList) record(span trace.Span, since time.Time) {
	for _, what := range h {
		if what.last.Before(since) {
			continue
		}
		began := what.first
		if began.Before(since) {
			began = since
		}
		attributes := make([]attribute.KeyValue, 0, len(what.attributes)+3)
		attributes = append(append(attributes, what.attributes...),
			DetailKey.String(what.detail), TimesKey.Int(what.times), LastedKey.Float64(what.last.Sub(began).Seconds()))
		span.AddEvent(what.name, trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	}
}
