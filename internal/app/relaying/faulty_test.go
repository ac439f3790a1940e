package relaying_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// mishap is what happens to one call that an instance makes.
type mishap int

const (
	fine        mishap = iota
	failBefore         // the request never arrives
	loseAnswer         // it arrives, but the answer does not
	arriveLate         // the caller gives up, and the request arrives afterwards
	crashBefore        // the process dies before the request leaves
	crashAfter         // the process dies when the request has arrived
	stallBefore        // the process stops (SIGSTOP) before the request leaves, and goes on later
	stallAfter         // the process stops when the request has arrived
	mishaps
)

func (m mishap) String() string {
	return [...]string{
		"fine", "fail before", "lose answer", "arrive late", "crash before", "crash after", "stall before", "stall after",
	}[m]
}

var (
	errOutage = fault.New(fault.Unavailable, "outage", "injected outage")
	errDead   = errors.New("the process is dead")
)

// planned is a mishap that waits for a call of a method.
type planned struct {
	mishap mishap
	delay  time.Duration
}

// former is a broker that led the stream of a cluster, and does not know yet that it does no longer: until then, what it is
// asked it answers with the stream's beginning. What it is sent is judged by its successor.
type former struct {
	until time.Time
	last  uint64
}

// lie is what a broker reports about the leader until a moment: in a partition, or while the leader reconnects.
type lie struct {
	until time.Time
	gone  bool
}

// instance is one process: a relay whose every call to the outside can go wrong.
type instance struct {
	world  *world
	relay  *relaying.Relay
	bell   *memory.Notifier
	inner  relaying.Ports
	broker *memory.Liveness // its connection, for what is announced
	cancel context.CancelFunc

	mu      sync.Mutex
	dead    bool
	stalled time.Time // until when
	next    map[string]planned
	former  former
	lie     lie

	restarts int // of the broker when the stream was opened

	stream *memory.Stream // of the broker that it is connected to
	limit  int            // of payloads, on its server; 0: none but the stream's
	widens bool           // the limit ends when the stream is looked at next
}

func (w *world) start(name string) *instance { return w.startAt(name, w.stream) }

// startAt starts an instance that is connected to a broker, which may be the wrong one.
func (w *world) startAt(name string, broker *memory.Stream) *instance {
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{
		world: w, bell: memory.NewNotifier(), cancel: cancel, next: make(map[string]planned), broker: memory.NewLiveness(w.presence), stream: broker,
	}
	i.inner = relaying.Ports{
		Log: w.reader, Cursors: w.cursors, Publisher: w.publisher, Parking: w.parking, Retention: w.cursors,
		Elector: memory.NewElector(w.lease, name), Halts: w.halts.Of(name), Liveness: i.broker,
	}
	if broker != w.stream {
		i.inner.Publisher = broker
	}
	if w.keepsLease {
		i.inner.Elector = &tenacious{Elector: i.inner.Elector, ctx: ctx, running: &w.running}
	}
	i.relay = relaying.New(relaying.Ports{
		Log: i, Cursors: i, Publisher: i, Parking: i, Retention: i, Elector: i, Halts: i, Liveness: i, Notifier: i, Listener: i.bell,
	}, relaying.Options{
		LeaseTTL: ttl, Poll: 500 * time.Millisecond, Slice: relay.ReadLimit{Count: 4, Bytes: 1 << 20}, Retention: retention,
	}, w.logger)
	w.running.Go(func() {
		if err := i.relay.Run(ctx); err != nil {
			w.report("the relay ended: %v", err)
		}
	})
	return i
}

// crash ends the process without a word.
func (i *instance) crash() {
	i.mu.Lock()
	i.dead = true
	i.mu.Unlock()
	i.broker.Disconnect()
	i.cancel()
}

func (i *instance) stall(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stalled = time.Now().Add(d)
}

// wait blocks while the process is stopped.
func (i *instance) wait() {
	for {
		i.mu.Lock()
		left := time.Until(i.stalled)
		i.mu.Unlock()
		if left <= 0 {
			return
		}
		time.Sleep(left)
	}
}

func (i *instance) plan(method string, p planned) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next[method] = p
}

// narrow limits what the instance's server takes: its max_payload was not raised yet.
func (i *instance) narrow(limit int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.limit, i.widens = limit, false
}

// widenAtLook ends the limit, which the instance learns when it looks at the stream.
func (i *instance) widenAtLook() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.widens = true
}

// taken is how many of a batch the instance's server takes, and what it says of the next one.
func (i *instance) taken(batch []outbox.Entry) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, entry := range batch {
		if i.limit > 0 && len(entry.Payload) > i.limit {
			return n, &relay.RefusedError{Entry: entry, Reason: "it is larger than this server takes"}
		}
	}
	return len(batch), nil
}

// spare forgets what was planned.
func (i *instance) spare() {
	i.narrow(0)
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.next)
	i.former, i.lie = former{}, lie{}
}

// mislead lets the broker say for a while that the leader is gone, or that it is there.
func (i *instance) mislead(gone bool, d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lie = lie{until: time.Now().Add(d), gone: gone}
}

// askFormer lets a former leader of the stream answer for a while, who knows the messages up to last.
func (i *instance) askFormer(last uint64, d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.former = former{until: time.Now().Add(d), last: last}
}

// known is the last sequence that whoever answers knows.
func (i *instance) known() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Now().After(i.former.until) {
		return math.MaxUint64
	}
	i.world.hit("a former leader answered")
	return i.former.last
}

// info is what whoever answers says about the stream.
func (i *instance) info(info relay.StreamInfo, err error) (relay.StreamInfo, error) {
	info.LastSequence = min(info.LastSequence, i.known())
	return info, err
}

// call lets a request go wrong as it was planned. A request that left is not called back when its caller gives up.
func call[T any](ctx context.Context, i *instance, method string, request func(context.Context) (T, error)) (T, error) {
	var none T
	i.wait()
	i.mu.Lock()
	p := i.next[method]
	delete(i.next, method)
	dead := i.dead
	i.mu.Unlock()
	if dead {
		return none, errDead
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	i.world.hit(method + ": " + p.mishap.String())
	sent := context.WithoutCancel(ctx)
	if method == "After" {
		sent = ctx
	}
	switch p.mishap {
	case failBefore:
		return none, errOutage
	case loseAnswer:
		_, _ = request(sent)
		return none, errOutage
	case arriveLate:
		i.world.running.Go(func() {
			time.Sleep(p.delay)
			if _, err := request(sent); err == nil {
				i.world.hit("late " + method + " took effect")
			}
		})
		return none, errOutage
	case crashBefore:
		i.crash()
		return none, errDead
	case crashAfter:
		_, _ = request(sent)
		i.crash()
		return none, errDead
	case stallBefore:
		i.stall(p.delay)
		i.wait()
	}
	answer, err := request(sent)
	if p.mishap == stallAfter {
		i.stall(p.delay)
	}
	i.wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return none, errDead
	}
	return answer, err
}

type nothing struct{}

func (i *instance) After(ctx context.Context, p outbox.Progress, s relay.ReadLimit) (relay.Page, error) {
	return call(ctx, i, "After", func(ctx context.Context) (relay.Page, error) { return i.inner.Log.After(ctx, p, s) })
}

func (i *instance) Verify(ctx context.Context, reached outbox.Progress, sequence uint64) error {
	_, err := call(ctx, i, "Verify", func(ctx context.Context) (nothing, error) {
		return nothing{}, i.inner.Log.Verify(ctx, reached, sequence)
	})
	return err
}

func (i *instance) Load(ctx context.Context) (relay.Cursor, error) {
	return call(ctx, i, "Load", i.inner.Cursors.Load)
}

func (i *instance) Save(ctx context.Context, t relay.WriteFence, c relay.Cursor) (relay.Cursor, error) {
	return write(ctx, i, "Save", func(ctx context.Context) (relay.Cursor, error) { return i.inner.Cursors.Save(ctx, t, c) })
}

func (i *instance) Report(ctx context.Context, t relay.WriteFence, h *relay.Halt) error {
	_, err := write(ctx, i, "Report", func(ctx context.Context) (nothing, error) { return nothing{}, i.inner.Cursors.Report(ctx, t, h) })
	return err
}

func (i *instance) Record(ctx context.Context, h *relay.Halt) error {
	_, err := call(ctx, i, "Record", func(ctx context.Context) (nothing, error) { return nothing{}, i.inner.Halts.Record(ctx, h) })
	return err
}

func (i *instance) Reconcile(
	ctx context.Context, t relay.WriteFence, tail relay.MessageMeta, sequence uint64, end bool,
) (relay.ParkingSummary, error) {
	return write(ctx, i, "Settle", func(ctx context.Context) (relay.ParkingSummary, error) {
		return i.inner.Parking.Reconcile(ctx, t, tail, sequence, end)
	})
}

func (i *instance) SetAside(ctx context.Context, t relay.WriteFence, entries []outbox.Entry) ([]outbox.Position, error) {
	return write(ctx, i, "SetAside", func(ctx context.Context) ([]outbox.Position, error) {
		return i.inner.Parking.SetAside(ctx, t, entries)
	})
}

func (i *instance) Due(ctx context.Context, p outbox.Position, s relay.ReadLimit) ([]outbox.Entry, bool, error) {
	type found struct {
		due     []outbox.Entry
		waiting bool
	}
	answer, err := call(ctx, i, "Due", func(ctx context.Context) (found, error) {
		due, waiting, err := i.inner.Parking.Due(ctx, p, s)
		return found{due, waiting}, err
	})
	return answer.due, answer.waiting, err
}

func (i *instance) Refuse(ctx context.Context, t relay.WriteFence, e outbox.Entry, reason string) error {
	_, err := write(ctx, i, "Refuse", func(ctx context.Context) (nothing, error) {
		return nothing{}, i.inner.Parking.Refuse(ctx, t, e, reason)
	})
	return err
}

func (i *instance) Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error) {
	removed, err := call(ctx, i, "Purge", func(ctx context.Context) (int, error) {
		removed, err := i.inner.Retention.Purge(ctx, token, age, limit)
		if removed > 0 {
			i.world.hit("purged")
		}
		return removed, err
	})
	return removed, err
}

// write is a call that is fenced.
func write[T any](ctx context.Context, i *instance, method string, request func(context.Context) (T, error)) (T, error) {
	return call(ctx, i, method, func(ctx context.Context) (T, error) {
		answer, err := request(ctx)
		if errors.Is(err, relay.ErrOutOfTurn) {
			i.world.hit("out of turn")
		}
		return answer, err
	})
}

// Open remembers how often the broker was restarted: what is published relies on the stream that was seen here.
func (i *instance) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	restarts := i.stream.Restarts()
	info, err := call(ctx, i, "Open", func(ctx context.Context) (relay.StreamInfo, error) {
		return i.info(i.inner.Publisher.Open(ctx, first))
	})
	i.restarts = restarts
	return info, err
}

func (i *instance) Look(ctx context.Context) (relay.StreamInfo, error) {
	i.mu.Lock()
	widens := i.widens
	i.mu.Unlock()
	if widens {
		i.narrow(0)
	}
	return call(ctx, i, "Look", func(ctx context.Context) (relay.StreamInfo, error) { return i.info(i.inner.Publisher.Look(ctx)) })
}

func (i *instance) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	return call(ctx, i, "At", func(ctx context.Context) (relay.MessageMeta, error) {
		if sequence > i.known() {
			return relay.MessageMeta{}, relay.ErrNoMessage
		}
		return i.inner.Publisher.At(ctx, sequence)
	})
}

func (i *instance) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return i.send(ctx, "Publish", after, func(ctx context.Context) (uint64, error) {
		return i.narrowly(batch, func(batch []outbox.Entry) (uint64, error) { return i.inner.Publisher.Publish(ctx, after, batch) })
	})
}

func (i *instance) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return i.send(ctx, "Redrive", after, func(ctx context.Context) (uint64, error) {
		return i.narrowly(batch, func(batch []outbox.Entry) (uint64, error) {
			return i.inner.Publisher.Redrive(ctx, after, at, batch)
		})
	})
}

// narrowly appends what stands before the first entry that the instance's server does not take.
func (i *instance) narrowly(batch []outbox.Entry, store func([]outbox.Entry) (uint64, error)) (uint64, error) {
	taken, refused := i.taken(batch)
	last, err := store(batch[:taken])
	if err == nil {
		err = refused
	}
	return last, err
}

func (i *instance) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	return i.send(ctx, "Notify", after, func(ctx context.Context) (uint64, error) {
		return i.inner.Publisher.PublishControl(ctx, after, notice)
	})
}

// send makes an append over a connection that a restart of the broker ends, with all that was sent over it.
func (i *instance) send(ctx context.Context, method string, after uint64, request func(context.Context) (uint64, error)) (uint64, error) {
	connection := i.restarts
	last, err := call(ctx, i, method, func(ctx context.Context) (uint64, error) {
		if i.stream.Restarts() != connection {
			return after, relay.ErrTailMoved
		}
		last, err := request(ctx)
		var refused *relay.RefusedError
		if errors.As(err, &refused) {
			i.world.hit("refused")
		}
		return last, err
	})
	if errors.Is(err, relay.ErrTailMoved) {
		i.world.hit("conflict")
	}
	return max(last, after), err
}

// Acquire gives everybody the holder's own term when the world does not check leases.
func (i *instance) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	return call(ctx, i, "Acquire", func(ctx context.Context) (relay.Term, error) {
		term, err := i.inner.Elector.Acquire(ctx, gone)
		if err == nil && gone != 0 {
			i.world.hit("took a lease before it ended")
		}
		if _, token := i.world.lease.Holder(); i.world.leaseless && err != nil {
			i.world.hit("second leader")
			return relay.Term{Token: token, Deadline: time.Now().Add(ttl)}, nil
		}
		return term, err
	})
}

func (i *instance) Renew(ctx context.Context, t relay.Term) (relay.Term, error) {
	return call(ctx, i, "Renew", func(ctx context.Context) (relay.Term, error) { return i.inner.Elector.Renew(ctx, t) })
}

func (i *instance) Resign(ctx context.Context, t relay.Term) error {
	_, err := call(ctx, i, "Resign", func(ctx context.Context) (nothing, error) { return nothing{}, i.inner.Elector.Resign(ctx, t) })
	return err
}

// Announce can get lost, be late, and stay when it was withdrawn.
func (i *instance) Announce(token int64) (withdraw func()) {
	withdraw, err := call(context.Background(), i, "Announce", func(context.Context) (func(), error) {
		return i.inner.Liveness.Announce(token), nil
	})
	if err != nil || i.world.keepsLease {
		return func() {}
	}
	return withdraw
}

func (i *instance) Probe(ctx context.Context, token int64) relay.ProbeResult {
	sighting, err := call(ctx, i, "Probe", func(ctx context.Context) (relay.ProbeResult, error) {
		sighting := i.inner.Liveness.Probe(ctx, token)
		i.mu.Lock()
		defer i.mu.Unlock()
		if time.Now().Before(i.lie.until) {
			i.world.hit(fmt.Sprintf("misled: the leader is gone: %t", i.lie.gone))
			sighting.Gone = i.lie.gone
		}
		return sighting, nil
	})
	if err != nil {
		return relay.ProbeResult{Session: sighting.Session}
	}
	return sighting
}

// Wake rings everybody.
func (i *instance) Notify() {
	for _, other := range i.world.everyone() {
		other.bell.Notify()
	}
}

// outage is a stream that cannot be reached while down.
type outage struct {
	relay.Publisher
	down *atomic.Bool
}

func (o outage) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	if o.down.Load() {
		return after, errOutage
	}
	return o.Publisher.Publish(ctx, after, batch)
}

func (o outage) Look(ctx context.Context) (relay.StreamInfo, error) {
	if o.down.Load() {
		return relay.StreamInfo{}, errOutage
	}
	return o.Publisher.Look(ctx)
}

func (o outage) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	if o.down.Load() {
		return relay.StreamInfo{}, errOutage
	}
	return o.Publisher.Open(ctx, first)
}

// hanging is an elector whose next renewal never comes back by itself.
type hanging struct {
	relay.Elector
	next atomic.Bool
}

func (h *hanging) Renew(ctx context.Context, term relay.Term) (relay.Term, error) {
	if h.next.CompareAndSwap(true, false) {
		<-ctx.Done()
		return relay.Term{}, errOutage.Wrap(ctx.Err())
	}
	return h.Elector.Renew(ctx, term)
}
