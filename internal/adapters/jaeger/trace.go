package jaeger

import (
	"encoding/json"
	"fmt"
	"time"
)

// Trace has the spans of one trace, in no order.
type Trace struct {
	ID    string
	Spans []Span
}

// Start returns the time when the earliest span began.
func (t Trace) Start() time.Time {
	var start time.Time
	for i, span := range t.Spans {
		if i == 0 || span.Start.Before(start) {
			start = span.Start
		}
	}
	return start
}

// Span is one span as Jaeger keeps it.
type Span struct {
	TraceID, ID string
	References  []Reference
	Name        string
	Service     string // service.name
	Instance    string // service.instance.id
	Start       time.Time
	Duration    time.Duration
	Tags        map[string]any // string, bool, int64 or float64; span.kind, error and otel.status_description among them
	Events      []Event
}

// The kinds of a Reference.
const (
	ChildOf     = "CHILD_OF"
	FollowsFrom = "FOLLOWS_FROM"
)

// Reference names another span.
type Reference struct {
	Kind    string // ChildOf or FollowsFrom
	TraceID string
	SpanID  string
}

// Event is something that happened during a span.
type Event struct {
	Name string
	Time time.Time
	Tags map[string]any
}

// Parent returns the id of the span's parent, empty for a root. Jaeger keeps a parent as ChildOf and a link as FollowsFrom. If a span also
// links to its parent, Jaeger keeps only the FollowsFrom. So without a ChildOf, a FollowsFrom in the same trace is the parent.
func (s Span) Parent() string {
	parent := ""
	for _, to := range s.References {
		switch {
		case to.TraceID != s.TraceID:
		case to.Kind == ChildOf:
			return to.SpanID
		case parent == "":
			parent = to.SpanID
		}
	}
	return parent
}

// Text returns a tag as text, or an empty text if there is no such tag.
func (s Span) Text(tag string) string { return text(s.Tags, tag) }

// Text returns a tag as text, or an empty text if there is no such tag.
func (e Event) Text(tag string) string { return text(e.Tags, tag) }

func text(tags map[string]any, tag string) string {
	if value, ok := tags[tag]; ok {
		return fmt.Sprint(value)
	}
	return ""
}

type wireTrace struct {
	TraceID   string     `json:"traceID"`
	Spans     []wireSpan `json:"spans"`
	Processes map[string]struct {
		ServiceName string   `json:"serviceName"`
		Tags        wireTags `json:"tags"`
	} `json:"processes"`
}

type wireSpan struct {
	TraceID       string `json:"traceID"`
	SpanID        string `json:"spanID"`
	OperationName string `json:"operationName"`
	References    []struct {
		RefType string `json:"refType"`
		TraceID string `json:"traceID"`
		SpanID  string `json:"spanID"`
	} `json:"references"`
	StartTime int64    `json:"startTime"` // microseconds since 1970
	Duration  int64    `json:"duration"`  // microseconds
	Tags      wireTags `json:"tags"`
	Logs      []struct {
		Timestamp int64    `json:"timestamp"`
		Fields    wireTags `json:"fields"`
	} `json:"logs"`
	ProcessID string `json:"processID"`
}

type wireTags []struct {
	Key   string          `json:"key"`
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

func (w wireTrace) read() Trace {
	trace := Trace{ID: w.TraceID, Spans: make([]Span, len(w.Spans))}
	for i, wire := range w.Spans {
		process := w.Processes[wire.ProcessID]
		span := Span{
			TraceID: wire.TraceID, ID: wire.SpanID, Name: wire.OperationName,
			Service: process.ServiceName, Instance: text(process.Tags.read(), "service.instance.id"),
			Start: time.UnixMicro(wire.StartTime), Duration: time.Duration(wire.Duration) * time.Microsecond,
			Tags: wire.Tags.read(),
		}
		for _, to := range wire.References {
			span.References = append(span.References, Reference{Kind: to.RefType, TraceID: to.TraceID, SpanID: to.SpanID})
		}
		for _, wire := range wire.Logs {
			tags := wire.Fields.read()
			event := Event{Name: text(tags, "event"), Time: time.UnixMicro(wire.Timestamp), Tags: tags}
			delete(tags, "event")
			span.Events = append(span.Events, event)
		}
		trace.Spans[i] = span
	}
	return trace
}

// read returns the tags with the types that Jaeger names. If JavaScript cannot hold an int64, Jaeger sends the
// number as a string.
func (w wireTags) read() map[string]any {
	tags := make(map[string]any, len(w))
	for _, tag := range w {
		var number int64
		if tag.Type == "int64" && json.Unmarshal(tag.Value, &number) == nil {
			tags[tag.Key] = number
			continue
		}
		var value any
		if json.Unmarshal(tag.Value, &value) == nil {
			tags[tag.Key] = value
		}
	}
	return tags
}
