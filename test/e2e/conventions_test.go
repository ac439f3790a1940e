package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestTelemetryFollowsTheConventions judges every span and every metric of an instance and two subscribers by the registry of OpenTelemetry's
// semantic conventions. Each attribute is in the registry, with its type and one of its values, or begins with outboxie and is documented.
// Each kind of span has its name and the attributes that the conventions require. Each metric of the registry has its unit, its instrument
// and its required attributes.
func TestTelemetryFollowsTheConventions(t *testing.T) {
	collector := infra.Collector(t)
	hook := receive(t)
	environment := append(collector.Environment(), "OTEL_METRICS_EXPORTER=otlp", "OTEL_METRIC_EXPORT_INTERVAL=200", "WEBHOOK_URL="+hook.address,
		"DATABASE_URL="+infra.Database(t), "NATS_URL="+infra.Broker(t))
	instance := infra.Serve(t, "judged", environment)
	infra.Launch(t, environment, "subscribe", "--id", "warehouse", "--handler", "fulfillment").WaitFor("subscribed")
	infra.Launch(t, environment, "subscribe", "--id", "shop", "--handler", "webhook").WaitFor("subscribed")
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	paid, err := infra.Transition(instance.API(), order.ID, "pay")
	require.NoError(t, err)
	for _, path := range []string{"/orders", "/orders/" + order.ID, "/orders/018f4e2a-0000-7000-8000-000000000000", "/nowhere"} {
		answer, err := http.Get("http://" + instance.API() + path)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
	}
	var spans []infra.Span
	require.True(t, collector.WaitFor(func(all []infra.Span) bool {
		spans = all
		paidFor := slices.DeleteFunc(slices.Clone(all), func(s infra.Span) bool { return s.TraceID != paid.TraceID })
		return len(infra.Named(paidFor, "process orders.fulfillment.requested")) == 1 && len(infra.Named(all, "GET")) == 1 &&
			len(infra.Named(all, "INSERT outbox")) > 0 // of the subscriber that emits
	}, waitTimeout))
	for _, metric := range []string{"http.server.request.duration", "messaging.client.sent.messages", "messaging.process.duration"} {
		require.True(t, collector.WaitFor(func([]infra.Span) bool { return len(collector.Points(metric)) > 0 }, waitTimeout), metric)
	}

	documents, err := os.ReadFile("../../docs/tracing.md")
	require.NoError(t, err)
	j := judge{Conventions: infra.ReadConventions(t), own: string(documents)}
	kinds := make(map[string]bool)
	for _, span := range spans {
		kinds[j.span(span)] = true
	}
	points := collector.Points("")
	for _, point := range points {
		j.point(point)
	}
	require.Empty(t, slices.Compact(slices.Sorted(slices.Values(j.faults))))
	require.Equal(t, map[string]bool{"http": true, "database": true, "messaging": true, "internal": true}, kinds, "all kinds were judged")
	requireWhoAndWhat(t, spans)
}

// requireWhoAndWhat checks that the spans show which subscriber, which instance and which table, without a look at their attributes.
func requireWhoAndWhat(t *testing.T, spans []infra.Span) {
	t.Helper()
	services := make(map[string]bool)
	for _, span := range spans {
		services[span.Service] = true
	}
	require.Equal(t, map[string]bool{"outboxie": true, "outboxie-subscriber-warehouse": true, "outboxie-subscriber-shop": true}, services)
	for _, name := range []string{"INSERT orders", "INSERT outbox", "BEGIN", "COMMIT"} {
		require.NotEmpty(t, infra.Named(spans, name), name)
	}
}

// judge compares telemetry with the registry, and collects what differs.
type judge struct {
	infra.Conventions
	own    string // the document that lists the attributes of outboxie
	faults []string
}

func (j *judge) fault(where, format string, more ...any) {
	j.faults = append(j.faults, where+": "+fmt.Sprintf(format, more...))
}

// openEnumerations are enumerations that allow other values, as their descriptions say.
var openEnumerations = []string{"messaging.system", "error.type"}

func (j *judge) attribute(where, key string, value any) {
	known, ok := j.Attributes[key]
	if !ok {
		if !strings.HasPrefix(key, "outboxie.") {
			j.fault(where, "%s is not in the registry", key)
		} else if !strings.Contains(j.own, "`"+key) && !strings.HasPrefix(where, "metric ") {
			j.fault(where, "docs/tracing.md does not explain %s", key)
		}
		return
	}
	wire := map[string]string{"string": "string", "Enum": "string", "int": "int64", "double": "float64", "boolean": "bool", "string[]": "[]interface {}"}
	if got := fmt.Sprintf("%T", value); got != wire[known.Type] {
		j.fault(where, "%s is a %s, not a %s", key, got, known.Type)
	}
	if value == "" {
		j.fault(where, "%s is empty", key)
	}
	if known.Type == "Enum" && !slices.Contains(openEnumerations, key) && !slices.Contains(known.Values, fmt.Sprint(value)) {
		j.fault(where, "%s is %v, which is not one of %v", key, value, known.Values)
	}
}

// span judges a span, and returns its kind.
func (j *judge) span(s infra.Span) string {
	where := "span " + s.Name
	for key, value := range s.Attributes {
		j.attribute(where, key, value)
	}
	if s.Status == "error" && s.Attributes["error.type"] == nil && s.Attributes["http.response.status_code"] == nil && s.Attributes["outboxie.halt.reason"] == nil {
		j.fault(where, "fails without error.type")
	}
	text := func(key string) string { value, _ := s.Attributes[key].(string); return value }
	switch {
	case text("http.request.method") != "":
		j.require(s, "server", strings.TrimSpace(text("http.request.method")+" "+text("http.route")),
			"url.path", "url.scheme", "http.response.status_code", "server.address")
		return "http"
	case text("db.system.name") != "":
		j.require(s, "client", text("db.query.summary"), "db.namespace", "db.query.text", "server.address")
		return "database"
	case text("messaging.operation.name") != "":
		kinds := map[string]string{"create": "producer", "send": "client", "notify": "producer", "process": "consumer"}
		more := []string{"messaging.system", "messaging.operation.type", "messaging.destination.name"}
		if text("messaging.operation.type") == "send" {
			more = append(more, "server.address")
		}
		j.require(s, kinds[text("messaging.operation.name")], text("messaging.operation.name")+" "+text("messaging.destination.name"), more...)
		return "messaging"
	}
	j.require(s, "internal", s.Name)
	return "internal"
}

// require compares the kind and the name of a span with those of its operation, and requires attributes.
func (j *judge) require(s infra.Span, kind, name string, keys ...string) {
	where := "span " + s.Name
	if s.Kind != kind {
		j.fault(where, "its kind is %s, not %s", s.Kind, kind)
	}
	if s.Name != name {
		j.fault(where, "its name is not %q", name)
	}
	for _, key := range keys {
		if s.Attributes[key] == nil {
			j.fault(where, "%s is missing", key)
		}
	}
}

// moreLabels are attributes that a metric has beside those of the registry. The type of an operation follows from its name, so it makes no
// further series, and dashboards of other systems select by it. The address of the broker, which the registry recommends, is left out of
// metrics: a process that reconnects to another server of a cluster would begin new series.
var moreLabels = map[string]bool{"messaging.operation.type": true}

// point judges a point of a metric.
func (j *judge) point(p infra.Point) {
	where := "metric " + p.Name
	for key, value := range p.Attributes {
		j.attribute(where, key, value)
	}
	known, ok := j.Metrics[p.Name]
	if !ok {
		if !strings.HasPrefix(p.Name, "outboxie.") {
			j.fault(where, "is not in the registry")
		}
		return
	}
	if p.Unit != known.Unit || p.Kind != known.Kind {
		j.fault(where, "is a %s in %s, not a %s in %s", p.Kind, p.Unit, known.Kind, known.Unit)
	}
	for _, key := range known.Required {
		if p.Attributes[key] == nil {
			j.fault(where, "%s is missing", key)
		}
	}
	for key := range p.Attributes {
		if !slices.Contains(known.Required, key) && !slices.Contains(known.Optional, key) && !strings.HasPrefix(key, "outboxie.") && !moreLabels[key] {
			j.fault(where, "has %s, which the registry does not give it", key)
		}
	}
}
