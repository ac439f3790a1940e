package infra

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// Sample is one value of a scrape. A histogram has one sample for each bucket, one for the count and one for the sum, named as in
// Prometheus.
type Sample struct {
	Name         string
	Labels       map[string]string
	Value        float64
	Metric, Kind string // name and kind of the metric: counter, gauge, histogram or untyped; only in a scrape
}

// Samples has the samples of one scrape.
type Samples []Sample

// Scrape reads GET /metrics of an admin listener as Prometheus does.
func Scrape(t testing.TB, admin string) Samples {
	t.Helper()
	samples, err := scrape(admin)
	require.NoError(t, err)
	return samples
}

func scrape(admin string) (Samples, error) {
	client := http.Client{Timeout: waitTimeout}
	request, err := http.NewRequest(http.MethodGet, "http://"+admin+"/metrics", nil) //nolint:noctx // the client has a timeout
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+AdminToken)
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, err
	}
	var samples Samples
	for _, name := range slices.Sorted(maps.Keys(families)) {
		for _, metric := range families[name].GetMetric() {
			for _, sample := range samplesOf(name, metric) {
				sample.Metric, sample.Kind = name, strings.ToLower(families[name].GetType().String())
				samples = append(samples, sample)
			}
		}
	}
	return samples, nil
}

func samplesOf(name string, metric *dto.Metric) Samples {
	labels := make(map[string]string)
	for _, label := range metric.GetLabel() {
		labels[label.GetName()] = label.GetValue()
	}
	histogram := metric.GetHistogram()
	if histogram == nil {
		value := metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + metric.GetUntyped().GetValue() // only one is set
		return Samples{{Name: name, Labels: labels, Value: value}}
	}
	samples := Samples{
		{Name: name + "_count", Labels: labels, Value: float64(histogram.GetSampleCount())},
		{Name: name + "_sum", Labels: labels, Value: histogram.GetSampleSum()},
	}
	for _, bucket := range histogram.GetBucket() {
		bounded := maps.Clone(labels)
		bounded["le"] = strconv.FormatFloat(bucket.GetUpperBound(), 'g', -1, 64)
		samples = append(samples, Sample{Name: name + "_bucket", Labels: bounded, Value: float64(bucket.GetCumulativeCount())})
	}
	return samples
}

// Find returns the samples with a name and all of the labels. A label has the form label=value; label= means that the sample does not have
// it.
func (s Samples) Find(name string, labels ...string) Samples {
	var found Samples
	for _, sample := range s {
		fits := sample.Name == name
		for _, label := range labels {
			key, value, _ := strings.Cut(label, "=")
			fits = fits && sample.Labels[key] == value
		}
		if fits {
			found = append(found, sample)
		}
	}
	return found
}

// Value returns the value of the only sample with a name and labels.
func (s Samples) Value(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	found := s.Find(name, labels...)
	require.Len(t, found, 1, "%s %v", name, labels)
	return found[0].Value
}

// WaitForSample scrapes until the only sample with a name and labels has the value.
func WaitForSample(t testing.TB, admin string, value float64, name string, labels ...string) {
	t.Helper()
	var found Samples
	var failed error
	for began := time.Now(); time.Since(began) < waitTimeout; time.Sleep(50 * time.Millisecond) {
		found, failed = scrape(admin)
		if found = found.Find(name, labels...); len(found) == 1 && found[0].Value == value {
			return
		}
	}
	t.Fatalf("%s %v: want %v, got %v (%v)", name, labels, value, found, failed)
}
