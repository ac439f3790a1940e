package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracing makes a CLIENT span of each statement that runs within a span, by OpenTelemetry's conventions for database clients. Statements
// outside of a span, such as the relay's polling, leave no trace. The name of a span says what the statement does to which table, such as
// "INSERT outbox". A span has the template of the statement. The values never leave the process.
type tracing struct {
	tracer     trace.Tracer
	attributes []attribute.KeyValue
	summaries  summaries
}

var _ bun.QueryHook = (*tracing)(nil)

func newTracing(provider trace.TracerProvider, config pgconn.Config) *tracing {
	attributes := []attribute.KeyValue{
		attribute.String("db.system.name", "postgresql"),
		attribute.String("db.namespace", config.Database),
		attribute.String("server.address", config.Host),
	}
	if config.Port != 5432 {
		attributes = append(attributes, attribute.Int("server.port", int(config.Port)))
	}
	return &tracing{
		tracer:     provider.Tracer("github.com/assylzhan-a/outboxie/internal/adapters/postgres"),
		attributes: attributes,
	}
}

// BeforeQuery starts the span, and returns the context unchanged. bun uses the context that comes back from BEGIN for everything in the
// transaction, and those statements must not look like parts of BEGIN.
func (t *tracing) BeforeQuery(ctx context.Context, event *bun.QueryEvent) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	text := template(event)
	made := t.summaries.of(text)
	_, span := t.tracer.Start(ctx, made.summary, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(made.attributes...), trace.WithAttributes(t.attributes...))
	span.SetAttributes(attribute.String("db.query.text", text))
	if isLate(ctx, made.summary) {
		span.SetAttributes(attribute.Bool(lateAttribute, true))
	}
	event.Stash = map[any]any{t: span}
	return ctx
}

// lateAttribute marks a span whose statement is sent with the next one, or with COMMIT, so that span has its time.
const lateAttribute = "outboxie.database.late"

func isLate(ctx context.Context, summary string) bool {
	if summary == "BEGIN" {
		late, _ := ctx.Value(lateBeginKey{}).(bool)
		return late
	}
	_, late := ctx.Value(lateAnswerKey{}).(judge)
	return late
}

// AfterQuery ends the span that BeforeQuery started.
func (t *tracing) AfterQuery(_ context.Context, event *bun.QueryEvent) {
	span, ok := event.Stash[t].(trace.Span)
	if !ok {
		return
	}
	if err := event.Err; err != nil && !errors.Is(err, sql.ErrNoRows) {
		kind := sqlState(err)
		if kind != "" {
			span.SetAttributes(attribute.String("db.response.status_code", kind))
		} else {
			kind = errorType(err)
		}
		span.SetAttributes(attribute.String("error.type", kind))
		span.SetStatus(codes.Error, kind)
	}
	span.End()
}

// template returns the statement without its values. bun hands over the finished text of the statements that it builds itself. template
// formats these again, without the arguments.
func template(event *bun.QueryEvent) string {
	if event.IQuery == nil {
		return event.QueryTemplate
	}
	text, err := event.IQuery.AppendQuery(schema.NewNopQueryGen(), nil)
	if err != nil {
		return event.IQuery.Operation()
	}
	return string(text)
}

func errorType(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return fmt.Sprintf("%T", err)
}
