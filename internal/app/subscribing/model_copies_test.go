package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

var (
	errLine   = fault.New(fault.Unavailable, "line_cut", "the line is cut")
	errPoison = errors.New("poison")
)

// process is one copy of the subscriber: its ports, which inject faults, and how to end it.
type process struct {
	*memory.Inbox
	inbox.Stream
	h      *harness
	name   string
	cancel context.CancelFunc
	killed atomic.Bool
	types  []string // types of events for which its program has a handler

	// The mutants change the following fields.
	apply           applyFunc // applies a batch; Inbox.Apply if the copy is no mutant
	ignoresHoles    bool      // it passes over holes
	lanesByPosition bool      // it chooses lanes by position

	mu          sync.Mutex
	lastRead    []string             // what the last read in the trace has returned
	cachedTimes map[uint64]time.Time // stored times that it has seen and does not read again; nil: it reads them
}

// start starts a copy.
func (h *harness) start() {
	h.note("started")
	p, _ := h.launch(subscriber)
	h.copies = append(h.copies, p)
}

// launch starts a copy of the subscriber id. The channel ended receives the result of Run.
func (h *harness) launch(id string) (p *process, ended <-chan error) {
	h.started++
	ctx, cancel := context.WithCancel(h.t.Context())
	reader := memory.NewReader(h.stream, id)
	reader.Behind = func() uint64 { return h.behind("lagging read") }
	reader.BehindState = func() uint64 { return h.behind("former leader's state") }
	p = &process{Inbox: h.inbox, Stream: reader, h: h, name: fmt.Sprint("copy-", h.started), cancel: cancel, types: []string{relaytest.EventType}, apply: h.inbox.Apply}
	if h.faultFree() || h.below(3) == 0 {
		p.types = append(p.types, newType)
	}
	if h.broken.copies != nil {
		h.broken.copies(p)
	}
	copied := subscribing.New(id, p.name, subscribing.Ports{
		Stream: p, Checkpoints: p, Work: p, Letters: p, Sweeper: p, Log: p, Handlers: onlyHandler(p),
	}, subscribing.Options{
		Lanes: h.lanes, Transactions: 1 + h.below(4), MaxAttempts: 3, MinBackoff: 50 * time.Millisecond, MaxBackoff: 2 * time.Second,
		BatchTime: 20 * time.Millisecond, Retention: 5 * time.Second, CallTime: h.callTime(),
		LossAdvice: h.noteLoss, Continue: h.continues,
	}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	h.running.Go(func() { done <- copied.Run(ctx) })
	return p, done
}

// mostBehind is how many of the last messages a lagging server may not know.
const mostBehind = 12

// behind returns how many of the last messages a server does not know now.
func (h *harness) behind(what string) uint64 {
	if !h.injects(what, 200) {
		return 0
	}
	return uint64(1 + h.below(mostBehind))
}

// stop ends the oldest copy. A copy that is killed does not withdraw its announcement.
func (h *harness) stop(kill bool) {
	if len(h.copies) == 0 {
		return
	}
	oldest := h.copies[0]
	h.copies = h.copies[1:]
	h.note(map[bool]string{true: "killed", false: "stopped"}[kill])
	oldest.killed.Store(kill)
	oldest.cancel()
}

// pause delays a transaction between two of its steps.
func (h *harness) pause(ctx context.Context, _ string) {
	switch {
	case h.injects("stalled step", 10):
		time.Sleep(idleTimeout + time.Duration(h.below(2000))*time.Millisecond)
	case h.injects("slow step", 200):
		sleep(ctx, time.Duration(h.below(30))*time.Millisecond)
	}
}

func sleep(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// RemoveCopy does nothing if the copy was killed.
func (p *process) RemoveCopy(ctx context.Context, subscriber, instance string) error {
	if p.killed.Load() {
		return nil
	}
	return p.Inbox.RemoveCopy(ctx, subscriber, instance)
}

// Read may fail. Its answer may be late, so that the stream has changed meanwhile.
func (p *process) Read(ctx context.Context, from uint64, limit inbox.ReadLimit) ([]inbox.Message, error) {
	if p.h.injects("line cut", 30) {
		return nil, errLine
	}
	messages, err := p.Stream.Read(ctx, from, limit)
	switch {
	case p.h.injects("frozen", 5):
		sleep(ctx, 10*time.Second)
	case p.h.injects("late answer", 100):
		sleep(ctx, time.Duration(p.h.below(1500))*time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.traceRead(from, messages)
	}
	for i, message := range messages {
		if p.cachedTimes != nil {
			if before, known := p.cachedTimes[message.Sequence]; known && message.Sequence == from {
				messages[i].StoredAt = before
			} else {
				p.cachedTimes[message.Sequence] = message.StoredAt
			}
		}
		if p.lanesByPosition && message.Event != nil && message.Event.Unreadable == nil {
			message.Event.Key.ID = fmt.Sprint(message.Event.Position)
		}
	}
	return messages, err
}

// State may fail.
func (p *process) State(ctx context.Context) (inbox.StreamState, error) {
	if p.h.injects("line cut", 30) {
		return inbox.StreamState{}, errLine
	}
	return p.Stream.State(ctx)
}

// Stored loses signals.
func (p *process) Stored() <-chan struct{} {
	if p.h.injects("deaf", 300) {
		return nil
	}
	return p.Stream.Stored()
}

// ReadHole finds nothing if the copy ignores holes.
func (p *process) ReadHole(ctx context.Context, subscriber string, hole inbox.Hole, limit inbox.ReadLimit) (inbox.HoleContents, error) {
	if p.ignoresHoles {
		return inbox.HoleContents{CompleteTo: hole.LastPosition(0)}, nil
	}
	contents, err := p.Inbox.ReadHole(ctx, subscriber, hole, limit)
	p.h.tracef("%s read the hole %+v: %+v %v", p.name, hole, contents, err)
	return contents, err
}

// Rewind records what it does.
func (p *process) Rewind(
	ctx context.Context, subscriber string, from inbox.Checkpoint, stream string, to inbox.StreamPosition,
) (inbox.Checkpoint, error) {
	at, err := p.Inbox.Rewind(ctx, subscriber, from, stream, to)
	p.h.tracef("%s rewinds lane %d from %s to %s: %v", p.name, from.Lane, place(from.StreamPosition), place(to), err)
	return at, err
}

// Sweep records that it removed something.
func (p *process) Sweep(ctx context.Context, subscriber, stream string, ids []string, first, passed uint64) (int, error) {
	forgotten, err := p.Inbox.Sweep(ctx, subscriber, stream, ids, first, passed)
	if forgotten > 0 {
		p.h.note("forgotten")
		p.h.tracef("%s forgot %d of %v", p.name, forgotten, ids)
	}
	return forgotten, err
}

// Apply may come late. It restores the aggregates that Read replaced.
func (p *process) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	if p.h.injects("late transaction", p.h.lateness) {
		sleep(ctx, time.Duration(p.h.below(100))*time.Second)
	}
	for i, event := range batch.Events {
		if event.Unreadable == nil {
			batch.Events[i].Key = p.h.aggregate(event.Entry)
		}
	}
	outcome, err := p.apply(ctx, subscriber, batch, handler, judge)
	p.h.tracef("%s lane %d/%d rev %d of %s from %s to %s: %s -> %v %v", p.name, batch.From.Lane, batch.From.Lanes, batch.From.Revision,
		subscriber, place(batch.From.StreamPosition), place(batch.To), names(batch.Events), outcome.Results, err)
	for range outcome.Results[:min(batch.FromLog, len(outcome.Results))] {
		p.h.note("filled from the log")
	}
	for _, letter := range outcome.Letters {
		if letter.NoHandler {
			p.h.note("no handler")
		}
	}
	return outcome, err
}

// Handle counts the event, unless a fault is injected.
func (p *process) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	h := p.h
	entry.Key = h.aggregate(entry)
	if !slices.Contains(p.types, entry.Type) {
		return inbox.ErrNoHandler
	}
	if h.external {
		return h.call(ctx, tx, entry)
	}
	switch {
	case h.injects("stalled handler", 10):
		time.Sleep(idleTimeout + time.Duration(h.below(2000))*time.Millisecond)
	case h.injects("slow handler", 200):
		sleep(ctx, time.Duration(h.below(100))*time.Millisecond)
	case h.injects("accident", 50):
		return errors.New("an accident")
	case h.injects("handler's outage", 10):
		return errLine
	}
	if h.fails(entry) {
		return errPoison
	}
	return memory.NewTotals().Add(ctx, tx, customer, value.NewMoney(100, "USD"))
}

// aggregate returns the aggregate of an event, also if a mutant has replaced it.
func (h *harness) aggregate(entry outbox.Entry) outbox.Key { return h.log[entry.Position-1].Key }

// faultFree reports whether no more faults are injected.
func (h *harness) faultFree() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faultsOff
}

func (h *harness) fails(entry outbox.Entry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.poison[entry.Position] && !h.poisonHealed
}

func (*process) Name() string      { return "test" }
func (p *process) Types() []string { return p.types }
func (p *process) External() bool  { return p.h.external }

// Applied does nothing.
func (*process) Applied(context.Context, outbox.Entry) {}
