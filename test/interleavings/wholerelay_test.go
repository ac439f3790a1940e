package interleavings_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// wholeRelays are complete relays with gates in their ports. Each runs until it has nothing to do, and resigns. To limit the number of
// schedules, each has gates only in a part of its run, which its name gives.
var wholeRelays = []*operation{
	wholeRelay("relay takes over", relayScenario{until: "Log.After"}),
	wholeRelay("relay drains", relayScenario{alreadyLeads: true, from: "Log.After", until: "second Due"}),
	wholeRelay("relay redrives", relayScenario{alreadyLeads: true, from: "Due", until: "second Due"}),
	wholeRelay("relay of a broker that takes less takes over", relayScenario{refuses: 2, until: "second Due"}),
}

// relayScenario describes a relay of wholeRelays.
type relayScenario struct {
	alreadyLeads bool            // it leads already, under the token of the state
	from         string          // the call at which its gate closes; empty: the gate is closed from the start
	until        string          // from this call on, the rest of the run is one step
	refuses      outbox.Position // the event that its broker refuses
}

func wholeRelay(name string, l relayScenario) *operation {
	return &operation{name: name, relay: true, prelude: l.from != "", do: func(ctx context.Context, s *side) (string, error) {
		return l.run(ctx, s)
	}}
}

func (l relayScenario) run(ctx context.Context, s *side) (string, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := &relayRun{relayScenario: l, side: s, stop: stop}
	r.relay = relaying.New(relaying.Ports{
		Log:       &gatedLog{postgres.NewLog(s.harness.plain, relayName, quiet), r},
		Cursors:   cursors(s),
		Publisher: &gatedStream{StreamRepair: s.harness.stream, side: s, refuses: l.refuses},
		Parking:   &watchedParking{parking(s), r},
		Retention: postgres.NewRetention(s.db, relayName),
		Elector:   &watchedElector{elector(s), r},
		Halts:     memory.NewHalts().Of("instance"),
		Liveness:  memory.NewLiveness(memory.NewPresence()),
		Notifier:  memory.NewNotifier(),
		Listener:  r,
	}, options, slog.New(r))
	err := r.relay.Run(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.halt, err
}

var (
	quiet   = slog.New(slog.DiscardHandler)
	options = relaying.Options{LeaseTTL: leaseTTL, Poll: leaseTTL, Batch: relay.ReadLimit{Count: 100, Bytes: 1 << 20}}
)

// relayRun watches a relay. It ends the relay when the relay waits for a wake-up, halts, or tries for the lease again.
type relayRun struct {
	relayScenario
	side  *side
	relay *relaying.Relay
	stop  context.CancelFunc

	mu    sync.Mutex
	calls map[string]int
	halt  string
}

// Notifications is called when there is nothing to do.
func (r *relayRun) Notifications() <-chan struct{} {
	r.stop()
	return nil
}

// reach closes the gate at the call from, and opens it at the call until.
func (r *relayRun) reach(call string) {
	r.mu.Lock()
	if r.calls == nil {
		r.calls = make(map[string]int)
	}
	r.calls[call]++
	count := r.calls[call]
	r.mu.Unlock()
	if call == r.from && count == 1 {
		r.side.free.Store(false)
	}
	if r.until == call || r.until == "second "+call && count == 2 {
		r.side.step("the rest", unknown)
		r.side.free.Store(true)
	}
}

// Enabled and the methods below make relayRun a slog.Handler, which learns of a halt from the log.
func (r *relayRun) Enabled(context.Context, slog.Level) bool { return true }
func (r *relayRun) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *relayRun) WithGroup(string) slog.Handler            { return r }

// Handle ends a relay that has halted.
func (r *relayRun) Handle(_ context.Context, record slog.Record) error {
	if record.Message == "relay halted" {
		r.mu.Lock()
		defer r.mu.Unlock()
		record.Attrs(func(a slog.Attr) bool {
			r.halt += fmt.Sprint(a.Value, " ")
			return true
		})
		r.stop()
	}
	return nil
}

type watchedElector struct {
	relay.Elector
	r *relayRun
}

// Acquire gives at most one term. A relay that leads already gets the term of the state.
func (e *watchedElector) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	e.r.reach("Acquire")
	if e.r.calls["Acquire"] > 1 {
		e.r.stop()
		return relay.Term{}, relay.ErrLeaseHeld
	}
	if e.r.alreadyLeads {
		return relay.Term{Token: leaseToken, Deadline: time.Now().Add(leaseTTL)}, nil
	}
	return e.Elector.Acquire(ctx, gone)
}

type gatedLog struct {
	relay.Log
	r *relayRun
}

func (l *gatedLog) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	l.r.reach("Log.After")
	l.r.side.step("read the log", read, l.r.side.touches("outbox, outbox_parked and outbox_cursor")...)
	return l.Log.After(ctx, from, limit)
}

type watchedParking struct {
	relay.Parking
	r *relayRun
}

func (p *watchedParking) Due(ctx context.Context, upTo outbox.Position, limit relay.ReadLimit) ([]outbox.Entry, bool, error) {
	p.r.reach("Due")
	return p.Parking.Due(ctx, upTo, limit)
}

// gatedStream makes each call to the stream a step, except for reads of a message, which never changes.
type gatedStream struct {
	relay.StreamRepair
	side    *side
	refuses outbox.Position
}

func (g *gatedStream) step(format string, args ...any) {
	what := fmt.Sprintf("stream: "+format, args...)
	g.side.step(what, visible, g.side.touches(what)...)
}

func (g *gatedStream) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	g.step("open")
	return g.StreamRepair.Open(ctx, first)
}

func (g *gatedStream) Raise(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	g.step("raise to %d", first)
	return g.StreamRepair.Raise(ctx, first)
}

func (g *gatedStream) Look(ctx context.Context) (relay.StreamInfo, error) {
	g.step("look")
	return g.StreamRepair.Look(ctx)
}

func (g *gatedStream) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	g.step("publish %d events after %d", len(batch), after)
	return g.taken(batch, after, func(batch []outbox.Entry) (uint64, error) { return g.StreamRepair.Publish(ctx, after, batch) })
}

func (g *gatedStream) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	g.step("redrive %d events after %d", len(batch), after)
	return g.taken(batch, after, func(batch []outbox.Entry) (uint64, error) { return g.StreamRepair.Redrive(ctx, after, at, batch) })
}

func (g *gatedStream) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	g.step("notify after %d", after)
	return g.StreamRepair.PublishControl(ctx, after, notice)
}

// taken appends the events before the first one that the broker refuses. For that one it returns a RefusedError.
func (g *gatedStream) taken(batch []outbox.Entry, after uint64, do func([]outbox.Entry) (uint64, error)) (uint64, error) {
	for i, entry := range batch {
		if entry.Position != g.refuses {
			continue
		}
		last, err := after, error(nil)
		if i > 0 {
			last, err = do(batch[:i])
		}
		if err == nil {
			err = &relay.RefusedError{Entry: entry, Reason: "too large for this broker"}
		}
		return last, err
	}
	return do(batch)
}

// relayed runs a relay without gates until it has nothing to do, and returns why it halted, if it did.
func (h *harness) relayed(ctx context.Context, db *bun.DB) (string, error) {
	outside := &side{harness: h, db: db, tables: map[string]bool{}}
	outside.free.Store(true)
	return relayScenario{until: "never"}.run(ctx, outside)
}
