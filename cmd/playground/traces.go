package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
)

const (
	otlpPort   = "4318" // where a Jaeger receives spans, OTLP over HTTP
	lookingFor = 500 * time.Millisecond
)

// traces says where the traces of `run` go, and where people look at them.
type traces struct {
	pages    config.URL // the address of a Jaeger that answers; empty: there is none
	endpoint string     // where to send spans, because a Jaeger is there; empty: OTEL_* decides
}

// findTraces looks for a Jaeger. Spans are sent to that Jaeger only if it is on this machine, and the environment does not say where spans
// go.
func findTraces(ctx context.Context, address config.URL) traces {
	ctx, cancel := context.WithTimeout(ctx, lookingFor)
	defer cancel()
	pages, err := jaeger.New(string(address))
	if err != nil {
		return traces{}
	}
	if _, err := pages.Services(ctx); err != nil {
		return traces{}
	}
	found := traces{pages: address}
	parsed, err := url.Parse(string(address))
	if err != nil || telemetry.TracesConfigured() || !isLoopback(parsed.Hostname()) {
		return found
	}
	taker := net.JoinHostPort(parsed.Hostname(), otlpPort)
	if connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", taker); err == nil {
		_ = connection.Close()
		found.endpoint = "http://" + taker
	}
	return found
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// environment returns variables for the processes: where to send spans, and where the links in the log lead.
func (t traces) environment() (variables []string) {
	if t.pages != "" {
		variables = append(variables, "JAEGER_URL="+string(t.pages))
	}
	if t.endpoint != "" {
		variables = append(variables, "OTEL_EXPORTER_OTLP_ENDPOINT="+t.endpoint)
	}
	return variables
}

// describe tells a newcomer where to look.
func (t traces) describe() string {
	switch {
	case t.endpoint != "":
		return fmt.Sprintf("at %s; the log has a link for each order, and\n               outboxie trace ORDER_ID draws it", t.pages)
	case telemetry.TracesConfigured():
		return "as the OTEL_* environment says"
	case t.pages != "":
		return fmt.Sprintf("not exported: the Jaeger at %s takes none on port %s of this machine; set OTEL_EXPORTER_OTLP_ENDPOINT", t.pages, otlpPort)
	}
	return "not exported: start a Jaeger on this machine and run this again, or set OTEL_EXPORTER_OTLP_ENDPOINT"
}
