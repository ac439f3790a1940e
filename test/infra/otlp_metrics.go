package infra

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
)

// Point is the last value of one series as a collector receives it.
type Point struct {
	Service, Instance string // service.name and service.instance.id of the sender
	Name, Unit        string
	Kind              string         // counter, updowncounter, gauge or histogram
	Attributes        map[string]any // as those of a Span
	Value             float64        // of a histogram: the number of observations
	Sum               float64        // of a histogram
}

// series returns the name of a point's series: instance name{attribute=value,…}, with the attributes in order.
func (p Point) series() string {
	var attributes []string
	for _, name := range slices.Sorted(maps.Keys(p.Attributes)) {
		attributes = append(attributes, fmt.Sprintf("%s=%v", name, p.Attributes[name]))
	}
	return p.Instance + " " + p.Name + "{" + strings.Join(attributes, ",") + "}"
}

// Points returns the last value of each series received so far. If name is not empty, it returns only series with this name. A program sends
// metrics only if its environment says so, for example with OTEL_METRICS_EXPORTER=otlp.
func (o *OTLP) Points(name string) []Point {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []Point
	for _, series := range slices.Sorted(maps.Keys(o.points)) {
		if point := o.points[series]; name == "" || point.Name == name {
			found = append(found, point)
		}
	}
	return found
}

// WaitForPoint waits until condition holds for a point of the instance with this name, and returns the point.
func (o *OTLP) WaitForPoint(t testing.TB, instance, name string, condition func(Point) bool, timeout time.Duration) Point {
	t.Helper()
	var found Point
	if o.WaitFor(func([]Span) bool {
		for _, point := range o.Points(name) {
			if point.Instance == instance && condition(point) {
				found = point
				return true
			}
		}
		return false
	}, timeout) {
		return found
	}
	t.Fatalf("%s of %s never came: %+v", name, instance, o.Points(name))
	return Point{}
}

func (o *OTLP) receiveMetrics(w http.ResponseWriter, r *http.Request) {
	request := new(collectorpb.ExportMetricsServiceRequest)
	if err := decode(r, request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var arrived []Point
	for _, resource := range request.GetResourceMetrics() {
		service, instance := sender(resource.GetResource())
		for _, scope := range resource.GetScopeMetrics() {
			for _, wire := range scope.GetMetrics() {
				for _, point := range pointsOf(wire) {
					point.Service, point.Instance = service, instance
					arrived = append(arrived, point)
				}
			}
		}
	}
	o.mu.Lock()
	for _, point := range arrived {
		o.points[point.series()] = point
	}
	o.announce()
	o.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func pointsOf(wire *metricspb.Metric) []Point {
	var points []Point
	add := func(kind string, wireAttributes []*commonpb.KeyValue, value, sum float64) {
		points = append(points, Point{
			Name: wire.GetName(), Unit: wire.GetUnit(), Kind: kind, Attributes: attributes(wireAttributes), Value: value, Sum: sum,
		})
	}
	for _, p := range wire.GetGauge().GetDataPoints() {
		add("gauge", p.GetAttributes(), number(p), 0)
	}
	kind := "updowncounter"
	if wire.GetSum().GetIsMonotonic() {
		kind = "counter"
	}
	for _, p := range wire.GetSum().GetDataPoints() {
		add(kind, p.GetAttributes(), number(p), 0)
	}
	for _, p := range wire.GetHistogram().GetDataPoints() {
		add("histogram", p.GetAttributes(), float64(p.GetCount()), p.GetSum())
	}
	return points
}

func number(wire *metricspb.NumberDataPoint) float64 {
	if value, ok := wire.GetValue().(*metricspb.NumberDataPoint_AsInt); ok {
		return float64(value.AsInt)
	}
	return wire.GetAsDouble()
}
