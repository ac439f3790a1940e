package outboxie

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// Builder collects the configuration of an Engine. The methods may be called in any order. A method wins over its variable of the environment,
// also if Environment is called later.
type Builder struct {
	config *config.Builder
	logger *slog.Logger
	traces trace.TracerProvider
	meters metric.MeterProvider
}

// Configure returns a Builder. Build needs a database and a stream; everything else has a default.
func Configure() *Builder {
	settings := config.NewBuilder().Require(config.DatabaseURL, config.StreamName, config.StreamSubjects, config.EventSource).
		Default(func(c *config.Config) { c.Stream.Name, c.Stream.Subjects, c.Stream.Source = "", "", "" }) // those of the order service
	return &Builder{config: settings, logger: slog.Default(), traces: otel.GetTracerProvider(), meters: otel.GetMeterProvider()}
}

// Environment takes settings from variables of the form NAME=value, as os.Environ returns them. docs/configuration.md lists the variables; those
// that only the order service has do nothing.
func (b *Builder) Environment(variables []string) *Builder {
	b.config.Environment(variables)
	return b
}

// set lets change change the configuration after the environment.
func (b *Builder) set(change func(c *config.Config)) *Builder {
	b.config.Set(change)
	return b
}

// Database names the database by a URL: postgres://user:password@host:5432/database. Its variable is DATABASE_URL.
func (b *Builder) Database(url string) *Builder {
	return b.set(func(c *config.Config) { c.Database.URL = config.URL(url) })
}

// MaxConnections bounds each pool of connections; 16 by default. The outbox and operators share one pool, the relay's lease has one of 2, and
// each subscriber has one of its own. Its variable is DATABASE_MAX_CONNS.
func (b *Builder) MaxConnections(count int) *Builder {
	return b.set(func(c *config.Config) { c.Database.MaxConns = count })
}

// NATS names the broker by a URL, or by several of one cluster, separated by commas. Its variable is NATS_URL.
func (b *Builder) NATS(url string) *Builder {
	return b.set(func(c *config.Config) { c.NATS.URL = config.URL(url) })
}

// Stream sets the name of the stream, such as INVOICES, and the pattern of the subjects of the service's events, such as invoices.>. The relay
// creates the stream. Its lease has the same name. Different services need different streams and patterns. Its variables are STREAM_NAME and
// STREAM_SUBJECTS.
func (b *Builder) Stream(name, subjects string) *Builder {
	return b.set(func(c *config.Config) { c.Stream.Name, c.Stream.Subjects = name, subjects })
}

// StreamLimits sets the limits of the stream. The relay raises those of an existing stream, and never lowers them. 0 means no limit, or one
// replica. Its variables are STREAM_MAX_BYTES, STREAM_MAX_AGE and STREAM_REPLICAS.
func (b *Builder) StreamLimits(maxBytes int64, maxAge time.Duration, replicas int) *Builder {
	return b.set(func(c *config.Config) {
		c.Stream.MaxBytes, c.Stream.MaxAge, c.Stream.Replicas = maxBytes, maxAge, max(replicas, 1)
	})
}

// Source is the CloudEvents source of every event, such as /acme/billing. Its variable is EVENT_SOURCE.
func (b *Builder) Source(source string) *Builder {
	return b.set(func(c *config.Config) { c.Stream.Source = source })
}

// Instance names the process in the lease, in logs and in traces; the default is the name of the machine and a random part. Its variable is
// INSTANCE_ID.
func (b *Builder) Instance(name string) *Builder {
	return b.set(func(c *config.Config) { c.InstanceID = name })
}

// Lease is how long the other relays wait for one that is frozen or has vanished with its machine; 3 s by default. A relay that stops or is
// killed is replaced sooner. Its variable is OUTBOX_LEASE_TTL.
func (b *Builder) Lease(ttl time.Duration) *Builder {
	return b.set(func(c *config.Config) { c.Outbox.LeaseTTL = ttl })
}

// Poll is the longest wait of an idle relay that nobody wakes; 500 ms by default. Its variable is OUTBOX_POLL_INTERVAL.
func (b *Builder) Poll(interval time.Duration) *Builder {
	return b.set(func(c *config.Config) { c.Outbox.PollInterval = interval })
}

// Retention is how long the outbox keeps an event, at least, after the event was published; 0, the default, is for ever. Its variable is
// OUTBOX_RETENTION.
func (b *Builder) Retention(kept time.Duration) *Builder {
	return b.set(func(c *config.Config) { c.Outbox.Retention = kept })
}

// Logger replaces slog.Default. With nil, slog.Default stays.
func (b *Builder) Logger(logger *slog.Logger) *Builder {
	if logger != nil {
		b.logger = logger
	}
	return b
}

// Tracing replaces the global TracerProvider of OpenTelemetry. With nil, that one stays.
func (b *Builder) Tracing(provider trace.TracerProvider) *Builder {
	if provider != nil {
		b.traces = provider
	}
	return b
}

// Metrics replaces the global MeterProvider of OpenTelemetry. With nil, that one stays.
func (b *Builder) Metrics(provider metric.MeterProvider) *Builder {
	if provider != nil {
		b.meters = provider
	}
	return b
}

// Build returns the Engine, or an error with every setting that is missing or wrong. It waits for neither database nor broker. Close the Engine.
func (b *Builder) Build() (*Engine, error) {
	c, err := b.config.Build()
	if err != nil {
		return nil, err
	}
	return newEngine(c, b)
}
