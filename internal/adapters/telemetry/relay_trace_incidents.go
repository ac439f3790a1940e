package telemetry

import (
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// maxHappenings bounds what a history remembers, and so how many events it adds to a span. After a lull the same thing is
// another one.
const (
	maxIncidents = 32
	sameIncidentWithin          = 10 * time.Second
)

// history is what lately held this instance's relay up, or set it going again. An event that waits meanwhile is told so, in
// the trace of its order: the relay publishes one batch after the other, so what concerns one event concerns all.
type incidents struct {
	recording    sync.WaitGroup // of the last long batch; over before the next one, and before the relay resigns
	mu         sync.Mutex
	list incidentList
}

// happening is something that happened once, or the same thing several times in a row.
type incident struct {
	name, detail string
	attributes   []attribute.KeyValue
	first, last  time.Time
	times        int
}

// note remembers that something happened from since to now. The same thing again becomes part of it.
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

// untilNow is what happened so far.
func (h *incidents) soFar() incidentList {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

type incidentList []incident

// tell adds to span, which starts at since, an event for each thing that happened since then.
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
