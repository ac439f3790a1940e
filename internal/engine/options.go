// Package engine composes the parts of the engine: the relay, the subscribers, and what operators need. It makes the options of each adapter
// from the configuration, wraps the ports in tracing and measurements, and makes the checks of readiness. The program in cmd/outboxie and the
// public package outboxie are composed of these functions. The package knows no fx and no particular service.
package engine

import (
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// sliceBytes bounds one read of the log. A relay holds two slices: the one that it publishes, and the next one.
const sliceBytes = 4 << 20

// Broker returns the options of a connection to the broker.
func Broker(c config.Config, logger *slog.Logger) jetstream.Options {
	return jetstream.Options{
		URL: string(c.NATS.URL), Name: c.InstanceID, Logger: logger,
		Creds: c.NATS.Creds, CA: c.NATS.CA, Cert: c.NATS.Cert, Key: c.NATS.Key,
		InboxPrefix: c.NATS.InboxPrefix,
	}
}

// Publisher returns the options of the relay's publisher.
func Publisher(c config.Config, logger *slog.Logger) jetstream.PublisherOptions {
	return jetstream.PublisherOptions{
		Stream: c.Stream.Name, Subjects: c.Stream.Subjects, Source: c.Stream.Source,
		MaxBytes: c.Stream.MaxBytes, MaxAge: c.Stream.MaxAge, Replicas: c.Stream.Replicas, Logger: logger,
	}
}

// Reader returns the options of a subscriber's reader. For operators, who look at the stream, subscriber is empty.
func Reader(c config.Config, subscriber string, logger *slog.Logger) jetstream.ReaderOptions {
	return jetstream.ReaderOptions{Stream: c.Stream.Name, Subjects: c.Stream.Subjects, Subscriber: subscriber, Logger: logger}
}

// Database returns the options of the pool.
func Database(c config.Config, tp trace.TracerProvider) postgres.Options {
	return postgres.Options{
		URL: string(c.Database.URL), MaxOpenConns: c.Database.MaxConns, ApplicationName: c.InstanceID, TracerProvider: tp,
	}
}

// RelayName returns the options that name the relay. Lease and cursor have the name of the stream.
func RelayName(c config.Config) postgres.RelayOptions {
	return postgres.RelayOptions{Name: c.Stream.Name, Stream: c.Stream.Name, Holder: c.InstanceID, LeaseTTL: c.Outbox.LeaseTTL}
}

// Inbox returns the options of the inbox.
func Inbox(c config.Config) postgres.InboxOptions {
	return postgres.InboxOptions{IdleTimeout: c.Subscriber.IdleTimeout}
}

func relayOptions(c config.Config) relaying.Options {
	return relaying.Options{
		LeaseTTL: c.Outbox.LeaseTTL, Poll: c.Outbox.PollInterval,
		Batch: relay.ReadLimit{Count: c.Outbox.BatchSize, Bytes: sliceBytes}, Retention: c.Outbox.Retention,
	}
}
