package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTraceAddress checks that links of the console to traces have no secrets.
func TestTraceAddress(t *testing.T) {
	require.Equal(t, "http://jaeger:16686/ui", traceAddress("http://me:secret@jaeger:16686/ui/?token=secret#x"))
	require.Empty(t, traceAddress("http://\x00"))
}
