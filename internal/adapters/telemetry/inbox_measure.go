package telemetry

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	retryReasonKey    = attribute.Key("outboxie.retry.reason")
	setAsideReasonKey = attribute.Key("outboxie.set_aside.reason")
)

// retryReason is the reason why a transaction was undone. The subscriber repeats an undone transaction.
type retryReason string

const (
	eventFailed  retryReason = "event_failed"  // the handler failed for an event
	writesFailed retryReason = "writes_failed" // the writes that the handlers collected failed
	laneMoved    retryReason = "lane_moved"    // another copy of the subscriber works on the lane
	unavailable  retryReason = "unavailable"   // the database, or a system that the handler needs, cannot be reached
	otherReason  retryReason = "other"
)

func reasonOf(err error) retryReason {
	var event *inbox.EventError
	var collected *inbox.CollectedError
	switch {
	case fault.KindOf(err) == fault.Unavailable:
		return unavailable
	case errors.Is(err, inbox.ErrLaneMoved):
		return laneMoved
	case errors.As(err, &event):
		return eventFailed
	case errors.As(err, &collected):
		return writesFailed
	}
	return otherReason
}

// setAsideReason is the reason why an event became a dead letter.
type setAsideReason string

const (
	failedEvent     setAsideReason = "failed"
	unreadableEvent setAsideReason = "unreadable"
	unhandledEvent  setAsideReason = "no_handler"
	heldEvent       setAsideReason = "held" // an earlier event of its aggregate is a dead letter
)

// MeasureInbox returns next with measurements of a subscriber. For a transaction: the number of events, the duration, and the reason if it
// was undone. For an event: the duration of the handler's call, the delay of the effect, and the outcome if the event was not applied. It
// also counts checkpoints that went back. An event costs two observations and no allocation.
func MeasureInbox(mp metric.MeterProvider, subscriber, stream string, next InboxPorts) InboxPorts {
	m := newInboxMeasures(meter(mp), subscriber, stream)
	return InboxPorts{
		Work:        &measuredWork{inboxMeasures: m, next: next.Work},
		Letters:     &measuredLetters{inboxMeasures: m, next: next.Letters},
		Checkpoints: measureCheckpoints(mp, subscriber, next.Checkpoints),
	}
}

// inboxMeasures has the instruments of one subscriber. Options are made once, because making them costs more than a measurement.
type inboxMeasures struct {
	consumed   metric.Int64Counter
	handling   metric.Float64Histogram
	latency    metric.Float64Histogram
	size       metric.Int64Histogram
	duration   metric.Float64Histogram
	duplicates metric.Int64Counter
	passedOver metric.Int64Counter
	filled     metric.Int64Counter
	missed     metric.Int64Counter
	setAside   metric.Int64Counter
	retries    metric.Int64Counter

	process        []attribute.KeyValue // of a call of the handler
	received       []metric.AddOption
	processed      []metric.RecordOption
	whose          []metric.RecordOption
	whoseAdd       []metric.AddOption
	setAsideReason map[setAsideReason][]metric.AddOption
	retryReason    map[retryReason][]metric.AddOption
}

func newInboxMeasures(m metric.Meter, subscriber, stream string) *inboxMeasures {
	whose := semconv.MessagingConsumerGroupName(subscriber)
	// The destination is the stream, not the subject: anybody who writes the outbox can make new subjects.
	operation := func(name, kind attribute.KeyValue) []attribute.KeyValue {
		return []attribute.KeyValue{messagingSystem, whose, semconv.MessagingDestinationName(stream), name, kind}
	}
	receive := operation(semconv.MessagingOperationName("receive"), semconv.MessagingOperationTypeReceive)
	process := operation(semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess)
	counter := func(name, unit, description string) metric.Int64Counter {
		return orReport(m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description)))
	}
	i := &inboxMeasures{
		consumed: orReport(messagingconv.NewClientConsumedMessages(m)).Inst(),
		handling: orReport(messagingconv.NewProcessDuration(m, callBoundaries)).Inst(),
		latency: orReport(m.Float64Histogram("outboxie.subscriber.latency", metric.WithUnit("s"), waitBoundaries,
			metric.WithDescription("Time from when an event was recorded in the outbox to the commit of its effect."))),
		size: orReport(m.Int64Histogram("outboxie.subscriber.batch.events", metric.WithUnit("{event}"), sizeBoundaries,
			metric.WithDescription("Events in one transaction that was committed."))),
		duration: orReport(m.Float64Histogram("outboxie.subscriber.batch.duration", metric.WithUnit("s"), callBoundaries,
			metric.WithDescription("Time of one transaction that was committed, with the time of the handler for all its events."))),
		duplicates: counter("outboxie.inbox.duplicates", "{event}",
			"Events that were dropped because they had been applied, or set aside, before."),
		passedOver: counter("outboxie.subscriber.passed_over", "{event}",
			"Events of types that the subscriber does not want."),
		filled: counter("outboxie.subscriber.filled", "{event}",
			"Events that the stream had removed before the subscriber read them, and that came from the log."),
		missed: counter("outboxie.subscriber.missed", "{message}",
			"Messages that a lane passed over: the stream had removed them before the subscriber read them, and their events are unknown."),
		setAside: counter("outboxie.subscriber.set_aside", "{event}",
			"Events that became dead letters, and why. Those that failed are tried again from there."),
		retries: counter("outboxie.subscriber.retries", "{transaction}",
			"Transactions that were undone, and why. Each is repeated."),
		process:        process,
		received:       []metric.AddOption{set(receive...)},
		processed:      []metric.RecordOption{set(process...)},
		whose:          []metric.RecordOption{set(whose)},
		whoseAdd:       []metric.AddOption{set(whose)},
		setAsideReason: make(map[setAsideReason][]metric.AddOption),
		retryReason:    make(map[retryReason][]metric.AddOption),
	}
	for _, reason := range []setAsideReason{failedEvent, unreadableEvent, unhandledEvent, heldEvent} {
		i.setAsideReason[reason] = []metric.AddOption{set(whose, setAsideReasonKey.String(string(reason)))}
	}
	for _, reason := range []retryReason{eventFailed, writesFailed, laneMoved, unavailable, otherReason} {
		i.retryReason[reason] = []metric.AddOption{set(whose, retryReasonKey.String(string(reason)))}
	}
	i.begin(context.Background())
	return i
}

// begin shows each counter with 0, so a scrape sees the first event as an increase.
func (i *inboxMeasures) begin(ctx context.Context) {
	i.consumed.Add(ctx, 0, i.received...)
	i.duplicates.Add(ctx, 0, i.whoseAdd...)
	i.passedOver.Add(ctx, 0, i.whoseAdd...)
	i.filled.Add(ctx, 0, i.whoseAdd...)
	i.missed.Add(ctx, 0, i.whoseAdd...)
	for _, named := range i.setAsideReason {
		i.setAside.Add(ctx, 0, named...)
	}
	for _, named := range i.retryReason {
		i.retries.Add(ctx, 0, named...)
	}
}

// countRemoved counts the events that the stream had removed.
func (i *inboxMeasures) countRemoved(ctx context.Context, batch inbox.Batch, outcome inbox.Outcome) {
	for _, result := range outcome.Results[:batch.FromLog] {
		if result != inbox.Duplicate {
			i.filled.Add(ctx, 1, i.whoseAdd...)
		}
	}
	i.missed.Add(ctx, int64(batch.Missed.Count), i.whoseAdd...)
}

// countRetry counts a transaction that was undone. It does not count a transaction that ended because the subscriber stops: this process does
// not repeat it.
func (i *inboxMeasures) countRetry(ctx context.Context, err error) {
	if ctx.Err() == nil {
		i.retries.Add(ctx, 1, i.retryReason[reasonOf(err)]...)
	}
}

// recordLatency records the delay between the recording of an event and its effect.
func (i *inboxMeasures) recordLatency(ctx context.Context, committed time.Time, entry *outbox.Entry) {
	// RecordedAt is from the database's clock, which may be ahead of this process.
	i.latency.Record(ctx, max(0, committed.Sub(entry.RecordedAt)).Seconds(), i.whose...)
}

type measuredWork struct {
	*inboxMeasures
	next inbox.UnitOfWork
}

func (w *measuredWork) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	began := time.Now()
	outcome, err := w.next.Apply(ctx, subscriber, batch, w.measured(ctx, handler), judge)
	if err != nil {
		w.countRetry(ctx, err)
		return outcome, err
	}
	if batch.PassedOver > 0 {
		w.passedOver.Add(ctx, int64(batch.PassedOver), w.whoseAdd...)
	}
	if batch.ChangesCounts() {
		w.countRemoved(ctx, batch, outcome)
	}
	if len(batch.Events) == 0 { // only the checkpoint moved
		return outcome, nil
	}
	committed := time.Now()
	w.consumed.Add(ctx, int64(len(batch.Events)), w.received...)
	w.size.Record(ctx, int64(len(batch.Events)), w.whose...)
	w.duration.Record(ctx, committed.Sub(began).Seconds(), w.whose...)
	w.recordResults(ctx, committed, batch.Events, outcome.Results)
	return outcome, nil
}

// recordResults records the outcomes of events.
func (w *measuredWork) recordResults(ctx context.Context, committed time.Time, events []inbox.Event, results []inbox.Result) {
	var duplicates, failed, unreadable, unhandled, held int64
	for i, result := range results {
		switch event := &events[i]; {
		case result == inbox.Applied:
			w.recordLatency(ctx, committed, &event.Entry)
		case result == inbox.Duplicate:
			duplicates++
		case result == inbox.Held:
			held++
		case event.Unreadable != nil:
			unreadable++
		case event.NoHandler:
			unhandled++
		default:
			failed++
		}
	}
	w.duplicates.Add(ctx, duplicates, w.whoseAdd...)
	w.setAside.Add(ctx, failed, w.setAsideReason[failedEvent]...)
	w.setAside.Add(ctx, unreadable, w.setAsideReason[unreadableEvent]...)
	w.setAside.Add(ctx, unhandled, w.setAsideReason[unhandledEvent]...)
	w.setAside.Add(ctx, held, w.setAsideReason[heldEvent]...)
}

type measuredLetters struct {
	*inboxMeasures
	next inbox.DeadLetters
}

func (l *measuredLetters) Redeliver(
	ctx context.Context, subscriber string, r inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Redelivered, bool, error) {
	done, found, err := l.next.Redeliver(ctx, subscriber, r, l.measured(ctx, handler), judge)
	if err != nil {
		l.countRetry(ctx, err)
		return done, found, err
	}
	committed := time.Now()
	for i := range done.Applied {
		l.recordLatency(ctx, committed, &done.Applied[i])
	}
	return done, found, nil
}

// measuredHandler is the handler of one transaction.
type measuredHandler struct {
	next inbox.Handler
	*inboxMeasures
	// record records one duration, in the context of the transaction. It does not use the handler's context, because the handler's context
	// has a span. The span would become an exemplar for each event.
	record func(took time.Duration, how ...metric.RecordOption)
}

func (i *inboxMeasures) measured(ctx context.Context, next inbox.Handler) inbox.Handler {
	return &measuredHandler{next: next, inboxMeasures: i, record: func(took time.Duration, how ...metric.RecordOption) {
		i.handling.Record(ctx, took.Seconds(), how...)
	}}
}

// Name, Types, External and Applied are not measured.
func (h *measuredHandler) Name() string { return h.next.Name() }

func (h *measuredHandler) Types() []string { return h.next.Types() }

func (h *measuredHandler) External() bool { return h.next.External() }

func (h *measuredHandler) Applied(ctx context.Context, entry outbox.Entry) {
	h.next.Applied(ctx, entry)
}

func (h *measuredHandler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	began := time.Now()
	panicked := true
	defer func() {
		if panicked {
			h.record(time.Since(began), h.failed("panic"))
		}
	}()
	err := h.next.Handle(ctx, tx, entry)
	panicked = false
	if err != nil {
		h.record(time.Since(began), h.failed(errorType(err)))
		return err
	}
	h.record(time.Since(began), h.processed...)
	return nil
}

func (i *inboxMeasures) failed(errorType string) metric.RecordOption {
	return set(append(slices.Clone(i.process), semconv.ErrorTypeKey.String(errorType))...)
}
