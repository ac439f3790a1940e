package telemetry_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// measured reads the measurements.
type measured struct{ reader *sdkmetric.ManualReader }

func measuring() (metric.MeterProvider, measured) {
	reader := sdkmetric.NewManualReader()
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), measured{reader}
}

// values returns the values of all series of a metric, by their attributes: "a=1,b=2". The value of a histogram is its number of
// observations.
func (m measured) values(t *testing.T, name string) map[string]float64 {
	t.Helper()
	values, err := m.collect(name)
	require.NoError(t, err)
	return values
}

// histogram returns a histogram that has one series.
func (m measured) histogram(t *testing.T, name string) metricdata.HistogramDataPoint[float64] {
	t.Helper()
	var collected metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.Background(), &collected))
	for _, scope := range collected.ScopeMetrics {
		for _, found := range scope.Metrics {
			if data, ok := found.Data.(metricdata.Histogram[float64]); ok && found.Name == name {
				require.Len(t, data.DataPoints, 1)
				return data.DataPoints[0]
			}
		}
	}
	require.FailNow(t, "there is no such histogram", name)
	panic("not reached")
}

// collect returns the collected metrics and the errors. An error does not prevent the collection of the other metrics.
func (m measured) collect(name string) (map[string]float64, error) {
	var collected metricdata.ResourceMetrics
	err := m.reader.Collect(context.Background(), &collected)
	values := make(map[string]float64)
	for _, scope := range collected.ScopeMetrics {
		for _, found := range scope.Metrics {
			if found.Name == name {
				addValues(values, found.Data)
			}
		}
	}
	return values, err
}

func addValues(values map[string]float64, data metricdata.Aggregation) {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		addPoints(values, data.DataPoints)
	case metricdata.Sum[float64]:
		addPoints(values, data.DataPoints)
	case metricdata.Gauge[int64]:
		addPoints(values, data.DataPoints)
	case metricdata.Gauge[float64]:
		addPoints(values, data.DataPoints)
	case metricdata.Histogram[int64]:
		addCounts(values, data.DataPoints)
	case metricdata.Histogram[float64]:
		addCounts(values, data.DataPoints)
	default:
		panic(fmt.Sprintf("what is a %T?", data))
	}
}

func addPoints[N int64 | float64](values map[string]float64, points []metricdata.DataPoint[N]) {
	for _, point := range points {
		values[point.Attributes.Encoded(attribute.DefaultEncoder())] = float64(point.Value)
	}
}

func addCounts[N int64 | float64](values map[string]float64, points []metricdata.HistogramDataPoint[N]) {
	for _, point := range points {
		values[point.Attributes.Encoded(attribute.DefaultEncoder())] = float64(point.Count)
	}
}
