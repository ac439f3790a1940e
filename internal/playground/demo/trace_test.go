package demo

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTracesConfigured checks that only the variables that decide where traces go keep the demo from sending traces to a local Jaeger.
func TestTracesConfigured(t *testing.T) {
	for variable, want := range map[string]bool{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318":           true,
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://collector/v1":      true,
		"OTEL_TRACES_EXPORTER=none":                                   true,
		"OTEL_SDK_DISABLED=True":                                      true,
		"OTEL_SDK_DISABLED=false":                                     false,
		"OTEL_EXPORTER_OTLP_ENDPOINT= ":                               false,
		"OTEL_SERVICE_NAME=shop":                                      false,
		"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://collector/v1/logs":   false,
		"NOT_OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.other:4318": false,
	} {
		require.Equal(t, want, tracesConfigured([]string{"PATH=/bin", variable}), variable)
	}
}
