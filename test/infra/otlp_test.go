package infra_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestWaitForSeesLogs checks that WaitFor looks again when a log record arrives.
func TestWaitForSeesLogs(t *testing.T) {
	collector := infra.Collector(t)
	looked, found := make(chan struct{}, 10), make(chan bool)
	go func() {
		found <- collector.WaitFor(func([]infra.Span) bool {
			looked <- struct{}{}
			return len(collector.Logs()) == 1
		}, 10*time.Second)
	}()
	<-looked // the first look finds no record
	body, err := proto.Marshal(&collectorpb.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{
		ScopeLogs: []*logspb.ScopeLogs{{LogRecords: []*logspb.LogRecord{{
			Body: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: "hello"}},
		}}}},
	}}})
	require.NoError(t, err)
	answer, err := http.Post(collector.Endpoint()+"/v1/logs", "application/x-protobuf", bytes.NewReader(body)) //nolint:noctx // a local server
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.True(t, <-found)
	require.Equal(t, "hello", collector.Logs()[0].Body)
}
