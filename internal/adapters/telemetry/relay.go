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

// What happens to a relay: names of events on "outbox relay" spans, and the first three of spans of their own.
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

// longRead is how long a read of the log takes at least when it has waited for an open transaction, or for a database that
// is slow.
const longRead = 100 * time.Millisecond

// RelayPorts is what a relay drives and what is traced of it.
type RelayPorts struct {
	Log       relay.Log
	Cursors   relay.CursorStore
	Publisher relay.Publisher
	Elector   relay.Elector
}

// TraceRelay returns next with spans around what the relay does: see the publisher for those of messages. Each change of
// leadership that the instance takes part in, each halt and its end is a trace of its own. And what held the relay up while
// a message waited, or set it going, is an event on the message's "outbox relay" span, in the trace of its order. Polling,
// followers and idle leaders leave no trace. A provider that records nothing costs nothing.
func TraceRelay(tp trace.TracerProvider, relay string, next RelayPorts) RelayPorts {
	if _, off := tp.(noop.TracerProvider); off {
		return next
	}
	tracer, story := tracer(tp), &history{}
	return RelayPorts{
		Log:       &log{next: next.Log, history: story},
		Cursors:   &cursors{CursorStore: next.Cursors, tracer: tracer, relay: relay, history: story},
		Publisher: &publisher{next: next.Publisher, tracer: tracer, stream: relay, history: story},
		Elector:   &elector{next: next.Elector, tracer: tracer, relay: relay, history: story},
	}
}

// failed notes an error that is no answer: not what the engine acts upon, and not the end of the call's own context.
func (h *history) failed(ctx context.Context, what string, err error, since time.Time) {
	if err == nil || ctx.Err() != nil {
		return
	}
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unavailable:
		h.note(what, err.Error(), since, errorTypeOf(err))
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.Refused:
	}
}

type elector struct {
	next    relay.Elector
	tracer  trace.Tracer
	relay   string
	history *history
}

func (e *elector) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	e.history.telling.Wait()
	began := time.Now()
	term, err := e.next.Acquire(ctx, gone)
	if err == nil {
		e.tell(ctx, becameLeader, "", began, term)
	}
	return term, err
}

func (e *elector) Renew(ctx context.Context, term relay.Term) (relay.Term, error) {
	began := time.Now()
	renewed, err := e.next.Renew(ctx, term)
	if errors.Is(err, relay.ErrLeaseLost) {
		e.tell(ctx, lostLead, err.Error(), began, term)
	}
	return renewed, err
}

func (e *elector) Resign(ctx context.Context, term relay.Term) error {
	e.history.telling.Wait()
	began := time.Now()
	err := e.next.Resign(ctx, term)
	if err == nil {
		e.tell(ctx, lostLead, "resigned", began, term)
	}
	return err
}

func (e *elector) tell(ctx context.Context, name, detail string, began time.Time, term relay.Term) {
	token := tokenKey.Int64(term.Token)
	e.history.note(name, detail, time.Now(), token)
	_, span := e.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithTimestamp(began),
		trace.WithAttributes(relayKey.String(e.relay), token, DetailKey.String(detail)))
	span.End()
}

// cursors learns of halts where the relay tells operators of them, and where it learns that one goes on, or that an operator
// has ended it. One relay uses it, so its calls do not overlap.
type cursors struct {
	relay.CursorStore
	tracer  trace.Tracer
	relay   string
	history *history
	halt    *relay.Halt
}

func (c *cursors) Load(ctx context.Context) (relay.Cursor, error) {
	began := time.Now()
	cursor, err := c.CursorStore.Load(ctx)
	c.history.failed(ctx, cursorFailed, err, began)
	if err == nil {
		c.observe(ctx, cursor.Halt, began)
	}
	return cursor, err
}

func (c *cursors) Save(ctx context.Context, turn relay.WriteFence, cursor relay.Cursor) (relay.Cursor, error) {
	began := time.Now()
	saved, err := c.CursorStore.Save(ctx, turn, cursor)
	if !errors.Is(err, relay.ErrSequenceBehind) { // for which the relay halts
		c.history.failed(ctx, cursorFailed, err, began)
	}
	return saved, err
}

func (c *cursors) Report(ctx context.Context, turn relay.WriteFence, halt *relay.Halt) error {
	began := time.Now()
	err := c.CursorStore.Report(ctx, turn, halt)
	if err == nil {
		c.observe(ctx, halt, began)
	}
	return err
}

func (c *cursors) observe(ctx context.Context, halt *relay.Halt, began time.Time) {
	before := c.halt
	c.halt = halt
	if halt != nil { // as long as it lasts
		c.history.note(relayHalted, halt.Detail, began, reasonKey.String(string(halt.Reason)))
	}
	if halt.Equal(before) {
		return
	}
	name, told := relayHalted, halt
	if halt == nil {
		name, told = relayResumed, before
		c.history.note(name, "", began)
	}
	_, span := c.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithTimestamp(began),
		trace.WithAttributes(relayKey.String(c.relay), reasonKey.String(string(told.Reason)), DetailKey.String(told.Detail)))
	if halt != nil {
		span.SetStatus(codes.Error, halt.Error())
	}
	span.End()
}

// log notes what a read of the log waited for: its span would belong to no order.
type log struct {
	next    relay.Log
	history *history
}

func (l *log) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	began := time.Now()
	page, err := l.next.After(ctx, from, limit)
	l.history.failed(ctx, logFailed, err, began)
	if err == nil && time.Since(began) >= longRead {
		l.history.note(logWaited, "for an open transaction that writes the outbox, or for the database", began)
	}
	return page, err
}

func (l *log) Verify(ctx context.Context, reached outbox.Progress, sequence uint64) error {
	began := time.Now()
	err := l.next.Verify(ctx, reached, sequence)
	if !errors.Is(err, relay.ErrSequenceBehind) { // for which the relay halts
		l.history.failed(ctx, logFailed, err, began)
	}
	return err
}

func errorTypeOf(err error) attribute.KeyValue { return semconv.ErrorTypeKey.String(errorType(err)) }
