package infra

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as a collector receives it. Ids are lower-case hex; ParentID is empty for the root of a trace.
type Span struct {
	TraceID, SpanID, ParentID string
	Name                      string
	Kind                      string         // internal, server, client, producer, consumer
	Service, Instance         string         // service.name and service.instance.id of the sender
	Attributes                map[string]any // string, bool, int64, float64, []any or map[string]any of these
	Links                     []Link
	Status                    string // unset, ok, error
	StatusMessage             string
	Start, End                time.Time
}

// Link names another span.
type Link struct{ TraceID, SpanID string }

// OTLP is a collector. It receives and keeps traces, logs and metrics over OTLP/HTTP with protobuf, the default of exporters.
type OTLP struct {
	server *httptest.Server

	mu      sync.Mutex
	spans   []Span
	logs    []LogRecord
	points  map[string]Point // by series
	changed chan struct{}    // closed and replaced when spans, logs or metrics arrive
}

// Collector starts a collector on a free port of loopback. The collector stops with the test.
func Collector(t testing.TB) *OTLP {
	t.Helper()
	o := &OTLP{points: make(map[string]Point), changed: make(chan struct{})}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /v1/traces", o.receive)
	routes.HandleFunc("POST /v1/logs", o.receiveLogs)
	routes.HandleFunc("POST /v1/metrics", o.receiveMetrics)
	o.server = httptest.NewServer(routes)
	t.Cleanup(o.server.Close)
	return o
}

// Endpoint returns the value for OTEL_EXPORTER_OTLP_ENDPOINT.
func (o *OTLP) Endpoint() string { return o.server.URL }

// Environment returns variables that make a program export to this collector without delay. They have the form NAME=value, as in exec.Cmd.
func (o *OTLP) Environment() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + o.Endpoint(),
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_BSP_SCHEDULE_DELAY=50",
	}
}

// Spans returns the spans received so far, in order of arrival.
func (o *OTLP) Spans() []Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.spans)
}

// WaitFor waits until condition holds for the spans received so far, and reports whether it did within timeout.
func (o *OTLP) WaitFor(condition func([]Span) bool, timeout time.Duration) bool {
	deadline := time.After(timeout)
	for {
		o.mu.Lock()
		spans, changed := slices.Clone(o.spans), o.changed
		o.mu.Unlock()
		if condition(spans) {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			return false
		}
	}
}

func (o *OTLP) receive(w http.ResponseWriter, r *http.Request) {
	request := new(collectorpb.ExportTraceServiceRequest)
	if err := decode(r, request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var arrived []Span
	for _, resource := range request.GetResourceSpans() {
		service, instance := sender(resource.GetResource())
		for _, scope := range resource.GetScopeSpans() {
			for _, wire := range scope.GetSpans() {
				span := spanOf(wire)
				span.Service, span.Instance = service, instance
				arrived = append(arrived, span)
			}
		}
	}
	o.mu.Lock()
	o.spans = append(o.spans, arrived...)
	o.announce()
	o.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer is an ExportTraceServiceResponse
}

// announce wakes all calls of WaitFor. The caller holds mu.
func (o *OTLP) announce() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// sender returns service.name and service.instance.id of a sender.
func sender(resource *resourcepb.Resource) (service, instance string) {
	told := attributes(resource.GetAttributes())
	service, _ = told["service.name"].(string)
	instance, _ = told["service.instance.id"].(string)
	return service, instance
}

func decode(r *http.Request, request proto.Message) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = unzipped
	}
	wire, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	return proto.Unmarshal(wire, request)
}

func spanOf(wire *tracepb.Span) Span {
	span := Span{
		TraceID:       hex.EncodeToString(wire.GetTraceId()),
		SpanID:        hex.EncodeToString(wire.GetSpanId()),
		ParentID:      hex.EncodeToString(wire.GetParentSpanId()),
		Name:          wire.GetName(),
		Kind:          strings.ToLower(strings.TrimPrefix(wire.GetKind().String(), "SPAN_KIND_")),
		Attributes:    attributes(wire.GetAttributes()),
		Status:        strings.ToLower(strings.TrimPrefix(wire.GetStatus().GetCode().String(), "STATUS_CODE_")),
		StatusMessage: wire.GetStatus().GetMessage(),
		Start:         time.Unix(0, int64(wire.GetStartTimeUnixNano())),
		End:           time.Unix(0, int64(wire.GetEndTimeUnixNano())),
	}
	for _, link := range wire.GetLinks() {
		span.Links = append(span.Links, Link{
			TraceID: hex.EncodeToString(link.GetTraceId()), SpanID: hex.EncodeToString(link.GetSpanId()),
		})
	}
	return span
}

func attributes(wire []*commonpb.KeyValue) map[string]any {
	read := make(map[string]any, len(wire))
	for _, attribute := range wire {
		read[attribute.GetKey()] = attributeValue(attribute.GetValue())
	}
	return read
}

func attributeValue(wire *commonpb.AnyValue) any {
	switch value := wire.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return value.StringValue
	case *commonpb.AnyValue_BoolValue:
		return value.BoolValue
	case *commonpb.AnyValue_IntValue:
		return value.IntValue
	case *commonpb.AnyValue_DoubleValue:
		return value.DoubleValue
	case *commonpb.AnyValue_KvlistValue:
		return attributes(value.KvlistValue.GetValues())
	case *commonpb.AnyValue_ArrayValue:
		var values []any
		for _, element := range value.ArrayValue.GetValues() {
			values = append(values, attributeValue(element))
		}
		return values
	}
	return nil
}
