package telemetry

import (
	"fmt"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// newSampler reads OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG as OpenTelemetry defines them. It returns an error for other values.
// Without these variables, a span with a parent is sampled if the parent is. A span without a parent is sampled only if spans are exported.
//
// If the sampler is based on the parent, a batch is sampled if one of its messages is sampled. A batch has no parent, so a ratio alone would
// leave out the batch of almost every sampled request.
//
// If clients are not trusted, the parents and the trace ids that clients send decide nothing, with any sampler. So a ratio then follows the
// parent, also without parentbased_: below a request, a decision by the id would be the client's.
func newSampler(exporting, trustClients bool) (sdktrace.Sampler, error) {
	name := strings.ToLower(env("OTEL_TRACES_SAMPLER"))
	root, followsParent := strings.CutPrefix(name, "parentbased_")
	if name == "" {
		root, followsParent = "always_on", true
		if !exporting {
			root = "always_off"
		}
	}
	var sampler sdktrace.Sampler
	switch root {
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		ratio, err := samplingRatio()
		if err != nil {
			return nil, err
		}
		sampler = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER %q must be always_on, always_off or traceidratio, or one of these after parentbased_", name)
	}
	decides := sampler
	if followsParent || root == "traceidratio" && !trustClients {
		decides = sdktrace.ParentBased(followsLinks{sampler})
	}
	if !trustClients {
		decides = forClients{Sampler: decides, root: sampler}
	}
	return decides, nil
}

func samplingRatio() (float64, error) {
	text := env("OTEL_TRACES_SAMPLER_ARG")
	if text == "" {
		return 1, nil
	}
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG %q must be a number from 0 to 1", text)
	}
	return ratio, nil
}

// followsLinks samples a span that links to a sampled span. For all other spans the embedded sampler decides.
type followsLinks struct{ sdktrace.Sampler }

// ShouldSample decides about a root.
func (s followsLinks) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	for _, link := range p.Links {
		if link.SpanContext.IsSampled() {
			return sdktrace.AlwaysSample().ShouldSample(p)
		}
	}
	return s.Sampler.ShouldSample(p)
}

// Description names both samplers.
func (s followsLinks) Description() string { return "FollowsLinks{" + s.Sampler.Description() + "}" }
