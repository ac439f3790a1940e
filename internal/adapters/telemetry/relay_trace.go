package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Names of the incidents of a relay, as events on "outbox relay" spans. The first four are also names of spans.
const (
	becameLeader  = "became leader"
	lostLead      = "lost leadership"
	relayHalted   = "relay halted"
	relayResumed  = "relay resumed"
	publishFailed = "publish failed"
	streamFailed  = "stream failed"
	cursorFailed  = "cursor failed"
	logFailed     = "log failed"
	logWaited     = "log waited"
)

// longRead is a limit: a read of the log that takes this long is an incident. The read waited for an open transaction, or the database is
// slow.
const longRead = 100 * time.Millisecond

// RelayPorts are the ports of a relay that are traced or measured.
type RelayPorts struct {
	Log       relay.Log
	Cursors   relay.CursorStore
	Publisher relay.Publisher
	Elector   relay.Elector
	Retention relay.Retention
}

// TraceRelay returns next with spans around what the relay does. Type publisher says which spans messages get. Each change of
// leadership in which the instance takes part, each halt and each end of a halt is a trace of its own. An incident that delayed a
// message, or ended its delay, is an event on the message's "outbox relay" span, in the trace of its aggregate. Polling, followers and
// idle leaders leave no trace. Retention is not traced. If the provider records nothing, TraceRelay returns next itself.
func TraceRelay(tp trace.TracerProvider, relay string, by Source, next RelayPorts) RelayPorts {
	if _, off := tp.(noop.TracerProvider); off {
		return next
	}
	tracer, shared := Tracer(tp), &incidents{}
	return RelayPorts{
		Log:       &log{next: next.Log, incidents: shared},
		Cursors:   &cursors{next: next.Cursors, tracer: tracer, relay: relay, incidents: shared},
		Publisher: &publisher{next: next.Publisher, tracer: tracer, stream: relay, by: by, incidents: shared},
		Elector:   &elector{next: next.Elector, tracer: tracer, relay: relay, incidents: shared},
		Retention: next.Retention,
	}
}

// addFailure adds an error as an incident. It leaves out the kinds of errors that the relay handles itself, and errors after the end of ctx.
func (h *incidents) addFailure(ctx context.Context, what string, err error, since time.Time) {
	if err == nil || ctx.Err() != nil {
		return
	}
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unavailable:
		h.add(what, err.Error(), since, errorTypeOf(err))
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.Refused:
	}
}

type elector struct {
	next      relay.Elector
	tracer    trace.Tracer
	relay     string
	incidents *incidents
}

func (e *elector) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	e.incidents.recording.Wait()
	began := time.Now()
	term, err := e.next.Acquire(ctx, gone)
	if err == nil {
		e.recordChange(ctx, becameLeader, "", began, term)
	}
	return term, err
}

func (e *elector) Renew(ctx context.Context, term relay.Term) (relay.Term, error) {
	began := time.Now()
	renewed, err := e.next.Renew(ctx, term)
	if errors.Is(err, relay.ErrLeaseLost) {
		e.recordChange(ctx, lostLead, err.Error(), began, term)
	}
	return renewed, err
}

func (e *elector) Resign(ctx context.Context, term relay.Term) error {
	e.incidents.recording.Wait()
	began := time.Now()
	err := e.next.Resign(ctx, term)
	if err == nil {
		e.recordChange(ctx, lostLead, "resigned", began, term)
	}
	return err
}

// recordChange records a change of leadership as a trace of its own, and as an incident.
func (e *elector) recordChange(ctx context.Context, name, detail string, began time.Time, term relay.Term) {
	token := tokenKey.Int64(term.Token)
	e.incidents.add(name, detail, time.Now(), token)
	_, span := e.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithTimestamp(began),
		trace.WithAttributes(relayKey.String(e.relay), token, DetailKey.String(detail)))
	span.End()
}

// cursors traces halts. Report and Load show a halt: a loaded cursor shows that a halt goes on, or that an operator has ended the halt. One
// relay uses cursors, so calls do not overlap.
type cursors struct {
	next      relay.CursorStore
	tracer    trace.Tracer
	relay     string
	incidents *incidents
	halt      *relay.Halt
}

func (c *cursors) Load(ctx context.Context) (relay.Cursor, error) {
	began := time.Now()
	cursor, err := c.next.Load(ctx)
	c.incidents.addFailure(ctx, cursorFailed, err, began)
	if err == nil {
		c.observe(ctx, cursor.Halt, began)
	}
	return cursor, err
}

func (c *cursors) Save(ctx context.Context, fence relay.WriteFence, cursor relay.Cursor) (relay.Cursor, error) {
	began := time.Now()
	saved, err := c.next.Save(ctx, fence, cursor)
	if !errors.Is(err, relay.ErrSequenceBehind) { // the relay halts for this error
		c.incidents.addFailure(ctx, cursorFailed, err, began)
	}
	return saved, err
}

func (c *cursors) Report(ctx context.Context, fence relay.WriteFence, halt *relay.Halt) error {
	began := time.Now()
	err := c.next.Report(ctx, fence, halt)
	if err == nil {
		c.observe(ctx, halt, began)
	}
	return err
}

// observe records the start and the end of a halt, each as a trace of its own. While a halt goes on, the halt is an incident.
func (c *cursors) observe(ctx context.Context, halt *relay.Halt, began time.Time) {
	before := c.halt
	c.halt = halt
	if halt != nil { // add extends the incident while the halt lasts
		c.incidents.add(relayHalted, halt.Detail, began, reasonKey.String(string(halt.Reason)))
	}
	if halt.Equal(before) {
		return
	}
	name, subject := relayHalted, halt
	if halt == nil {
		name, subject = relayResumed, before
		c.incidents.add(name, "", began)
	}
	_, span := c.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithTimestamp(began),
		trace.WithAttributes(relayKey.String(c.relay), reasonKey.String(string(subject.Reason)), DetailKey.String(subject.Detail)))
	if halt != nil {
		span.SetStatus(codes.Error, halt.Error())
	}
	span.End()
}

// log adds long and failed reads as incidents. It starts no span, because a read belongs to no single aggregate.
type log struct {
	next      relay.Log
	incidents *incidents
}

func (l *log) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	began := time.Now()
	page, err := l.next.After(ctx, from, limit)
	l.incidents.addFailure(ctx, logFailed, err, began)
	if err == nil && time.Since(began) >= longRead {
		l.incidents.add(logWaited, "for an open transaction that writes the outbox, or for the database", began)
	}
	return page, err
}

func (l *log) Verify(ctx context.Context, reached outbox.Progress, sequence uint64) (bool, error) {
	began := time.Now()
	more, err := l.next.Verify(ctx, reached, sequence)
	if !errors.Is(err, relay.ErrSequenceBehind) { // the relay halts for this error
		l.incidents.addFailure(ctx, logFailed, err, began)
	}
	return more, err
}

func errorTypeOf(err error) attribute.KeyValue { return semconv.ErrorTypeKey.String(errorType(err)) }
