package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// The labels of the measurements of one relay among several in a process. They are attributes of the resource, so a measurement does not
// become slower.
const (
	relayNameKey   = attribute.Key("outboxie.relay")
	relayStreamKey = attribute.Key("outboxie.stream")
)

// ForRelay returns a MeterProvider for one of several relays of a process. /metrics shows its measurements beside those of the others, with the
// labels outboxie_relay and outboxie_stream. A push has both as attributes of the resource. Each relay needs a name of its own. Call ForRelay
// once for each relay, before Shutdown.
func (t *Telemetry) ForRelay(ctx context.Context, name, stream string) (metric.MeterProvider, error) {
	if t.setup == nil {
		return t.meters, nil
	}
	labels := resource.NewSchemaless(relayNameKey.String(name), relayStreamKey.String(stream))
	who, err := resource.Merge(t.setup.resource, labels)
	if err != nil {
		return nil, err
	}
	provider, err := t.setup.newProvider(ctx, who)
	if err != nil {
		return nil, err
	}
	t.setup.relays = append(t.setup.relays, provider)
	return provider, nil
}

// isRelayLabel keeps the attributes of the resource that tell the relays of a process apart.
func isRelayLabel(kv attribute.KeyValue) bool {
	return kv.Key == relayNameKey || kv.Key == relayStreamKey
}

// Shutdown exports the remaining measurements of the process and of each relay, at the same time.
func (m *metricsSetup) Shutdown(ctx context.Context) error {
	ended := make(chan error, len(m.relays))
	for _, provider := range m.relays {
		go func() { ended <- provider.Shutdown(ctx) }()
	}
	errs := []error{m.provider.Shutdown(ctx)}
	for range m.relays {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}
