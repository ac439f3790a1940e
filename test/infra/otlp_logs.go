package infra

import (
	"encoding/hex"
	"net/http"
	"slices"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
)

// LogRecord is a log record as a collector receives it. Ids are lower-case hex, empty outside a trace.
type LogRecord struct {
	TraceID, SpanID   string
	Severity, Body    string
	Service, Instance string
	Attributes        map[string]any
}

// Logs returns the records received so far, in order of arrival. A program sends records only if its environment says so, for example with
// OTEL_LOGS_EXPORTER=otlp.
func (o *OTLP) Logs() []LogRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.logs)
}

func (o *OTLP) receiveLogs(w http.ResponseWriter, r *http.Request) {
	request := new(collectorpb.ExportLogsServiceRequest)
	if err := decode(r, request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var arrived []LogRecord
	for _, resource := range request.GetResourceLogs() {
		service, instance := sender(resource.GetResource())
		for _, scope := range resource.GetScopeLogs() {
			for _, wire := range scope.GetLogRecords() {
				arrived = append(arrived, LogRecord{
					TraceID: hex.EncodeToString(wire.GetTraceId()), SpanID: hex.EncodeToString(wire.GetSpanId()),
					Severity: wire.GetSeverityText(), Body: wire.GetBody().GetStringValue(),
					Service: service, Instance: instance, Attributes: attributes(wire.GetAttributes()),
				})
			}
		}
	}
	o.mu.Lock()
	o.logs = append(o.logs, arrived...)
	o.announce()
	o.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
}
