package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

func (p *program) traceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace ORDER_ID",
		Short: "Draw the traces of an order's events: request, transaction, wait in the outbox, subscribers",
		Long: "Draw the traces of an order's events, one for each event. The Jaeger at JAEGER_URL finds them by the order's id. If it has\n" +
			"none and DATABASE_URL is set, the command asks the outbox why: there is no such order, or its trace was not sampled.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errUsage.With("name one order by its id: outboxie trace ORDER_ID")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.configure(cmd)
			if err != nil {
				return err
			}
			key, err := wording.ParseAggregate(args[0])
			if err != nil {
				return err
			}
			return p.trace(cmd.Context(), c, key)
		},
	}
	config.AddFlags(cmd.Flags(), config.JaegerURL)
	return cmd
}

func (p *program) trace(ctx context.Context, c config.Config, key outbox.Key) error {
	client, err := jaeger.New(string(c.Jaeger.URL))
	if err != nil {
		return err
	}
	traces, err := client.Find(ctx, string(telemetry.AggregateIDKey), key.ID, placedSince(key.ID, time.Now()))
	if errors.Is(err, jaeger.ErrUnreachable) {
		return fmt.Errorf("%w. Is there a Jaeger at %s? JAEGER_URL (--jaeger-url) says where it is", err, c.Jaeger.URL)
	}
	if err != nil {
		return err
	}
	if len(traces) == 0 {
		return whyNoTrace(ctx, c, key)
	}
	for i, trace := range traces {
		linked, err := client.Linked(ctx, trace)
		if err != nil {
			return err
		}
		if i > 0 {
			_, _ = fmt.Fprintln(p.stdout) // if this write fails, the next write fails too
		}
		if err := drawTrace(p.stdout, trace, linked, client.Page(trace.ID)); err != nil {
			return err
		}
		if !slices.ContainsFunc(trace.Spans, func(s jaeger.Span) bool { return s.Name == telemetry.WaitSpan }) {
			_, _ = fmt.Fprintf(p.stdout, "\nJaeger has no span that shows the event in the stream: %s\n",
				printable.Command("outboxie", "outbox", "list", "--order", key.String()))
		}
	}
	return nil
}

// placedSince returns the time from which Jaeger searches. An id of version 7 contains its time; the search begins a minute earlier,
// because clocks differ. For another id the search begins 30 days ago. By default Jaeger searches two days, and some of its stores need a
// limit.
func placedSince(id string, now time.Time) time.Time {
	if parsed, err := uuid.Parse(id); err == nil && parsed.Version() == 7 {
		return time.Unix(parsed.Time().UnixTime()).Add(-time.Minute)
	}
	return now.AddDate(0, 0, -30)
}

var errNoTrace = fault.New(fault.NotFound, "no_trace", "there is no trace")

// whyNoTrace asks the outbox, if DATABASE_URL is set, about an order that Jaeger does not know.
func whyNoTrace(ctx context.Context, c config.Config, key outbox.Key) error {
	if !c.Given(config.DatabaseURL) {
		return errNoTrace.With("the Jaeger at %s has no trace of %s. There is no such order, or its trace was not sampled, was sent elsewhere, "+
			"is not there yet or not any more; with DATABASE_URL this command can tell which", c.Jaeger.URL, key)
	}
	var events []operations.ListedEvent
	err := engine.WithDatabase(c, func(db *bun.DB) (err error) {
		events, err = postgres.NewRelayAdmin(db, c.Stream.Name, c.Stream.Name).List(ctx, operations.EventFilter{Aggregate: key, Limit: maxListed})
		return err
	})
	if err != nil {
		return err
	}
	if len(events) == 0 {
		return errNoTrace.With("there is no %s: the outbox has no event of it (any more)", key)
	}
	var sampled []string
	for _, event := range events {
		created := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(event.Headers)))
		if created.IsSampled() {
			sampled = append(sampled, created.TraceID().String())
		}
	}
	if len(sampled) == 0 {
		return errNoTrace.With("%s was not traced: %s, and no trace of them was sampled (OTEL_TRACES_SAMPLER) where they were recorded",
			key, wording.Counted(len(events), "event"))
	}
	return errNoTrace.With("%s was traced, but the Jaeger at %s does not have it: it was sent elsewhere, is not there yet or not any more. "+
		"Its traces: %s", key, c.Jaeger.URL, strings.Join(sampled, ", "))
}
