package telemetry

import (
	"net"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Source says which process makes the spans of a relay or a subscriber. A tool that shows a span without its resource then still shows the
// process.
type Source struct {
	Instance string        // messaging.client.id, which is also the name of the process's connection to NATS
	Broker   func() string // returns host:port of the server that the process is connected to, or ""; nil: unknown
}

// usualPort is NATS's own port. The conventions name a port only if it is another one.
const usualPort = 4222

// server returns server.address and, if the port is not the usual one, server.port. It returns nothing if the server is unknown.
func (s Source) server() []attribute.KeyValue {
	if s.Broker == nil {
		return nil
	}
	host, port, err := net.SplitHostPort(s.Broker())
	if err != nil || host == "" {
		return nil
	}
	attributes := []attribute.KeyValue{semconv.ServerAddress(host)}
	if number, err := strconv.Atoi(port); err == nil && number != usualPort {
		attributes = append(attributes, semconv.ServerPort(number))
	}
	return attributes
}
