package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/playground/processes"
)

// trace is a trace as Jaeger returns it.
type trace struct {
	Spans []struct {
		OperationName string `json:"operationName"`
	} `json:"spans"`
}

// complete reports whether the trace has the span of the request and one span of each subscriber. It takes some seconds to be complete,
// because each process exports its spans every few seconds.
func (t trace) complete() bool {
	requests, deliveries := 0, 0
	for _, span := range t.Spans {
		switch span.OperationName {
		case "POST /orders":
			requests++
		case "process orders.created":
			deliveries++
		}
	}
	return requests == 1 && deliveries == len(Subscribers)
}

// traced waits until Jaeger has the whole trace of the first order. It runs before the first kill, because a killed process loses the spans
// that it has not exported.
func (s *scenario) traced(ctx context.Context, note Note) (string, error) {
	traces, id := s.fleet.Traces(), s.first.traceID
	if traces.Jaeger == "" {
		return fmt.Sprintf("trace id %s\n%s", id, traces.None), nil
	}
	note("waiting until every process has exported its part")
	var found trace
	err := processes.Await(ctx, 200*time.Millisecond, func() (bool, error) {
		var err error
		found, err = readTrace(ctx, traces.Jaeger, id)
		return found.complete(), err
	})
	if err != nil {
		return "", fmt.Errorf("the whole trace %s is not in Jaeger: %w", id, err)
	}
	return fmt.Sprintf("%d spans, from POST /orders to each subscriber\n%s", len(found.Spans), traces.link(id)), nil
}

// readTrace returns a trace. The trace is empty while Jaeger has none of its spans.
func readTrace(ctx context.Context, jaeger, id string) (trace, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, jaeger+"/api/traces/"+id, nil)
	if err != nil {
		return trace{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return trace{}, err
	}
	defer answer.Body.Close()
	var found struct {
		Data []trace `json:"data"`
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return trace{}, nil
	case http.StatusOK:
		err = json.NewDecoder(answer.Body).Decode(&found)
	default:
		err = fmt.Errorf("Jaeger answers %s", answer.Status)
	}
	if err != nil || len(found.Data) == 0 {
		return trace{}, err
	}
	return found.Data[0], nil
}

// The addresses at which a Jaeger of this machine shows traces, and receives them.
const (
	localJaeger    = "http://localhost:16686"
	localCollector = "http://localhost:4318"
)

// findJaeger looks for a Jaeger on this machine, unless the environment says where traces go.
func findJaeger(ctx context.Context, environment []string) Traces {
	if tracesConfigured(environment) {
		return Traces{None: "traces go where the OTEL_* variables say"}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := readTrace(ctx, localJaeger, strings.Repeat("0", 31)+"1"); err != nil {
		return Traces{None: "no Jaeger listens on " + localJaeger}
	}
	return Traces{Jaeger: localJaeger}
}

// tracesConfigured reports whether the environment decides where the processes send traces, or disables traces. Other OTEL_* variables, such
// as OTEL_SERVICE_NAME, do not decide that. The rule is the same as in telemetry.TracesConfigured of outboxie.
func tracesConfigured(environment []string) bool {
	return slices.ContainsFunc(environment, func(variable string) bool {
		name, value, _ := strings.Cut(variable, "=")
		value = strings.TrimSpace(value)
		switch name {
		case "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
			return value != ""
		case "OTEL_SDK_DISABLED":
			return strings.EqualFold(value, "true")
		}
		return false
	})
}
