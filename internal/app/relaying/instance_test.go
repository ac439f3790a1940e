package relaying_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// faultKind is what goes wrong with one call of an instance.
type faultKind int

const (
	noFault     faultKind = iota
	failBefore            // the request never arrives
	loseAnswer            // the request arrives, but the answer does not
	arriveLate            // the caller gives up, and the request arrives afterwards
	crashBefore           // the process dies before the request leaves
	crashAfter            // the process dies when the request has arrived
	stallBefore           // the process is frozen (SIGSTOP) before the request leaves, and continues later
	stallAfter            // the process is frozen when the request has arrived
	faultKinds
)

func (m faultKind) String() string {
	return [...]string{
		"fine", "fail before", "lose answer", "arrive late", "crash before", "crash after", "stall before", "stall after",
	}[m]
}

var (
	errOutage = fault.New(fault.Unavailable, "outage", "injected outage")
	errDead   = errors.New("the process is dead")
)

// injectedFault is a fault for the next call of a method.
type injectedFault struct {
	kind  faultKind
	delay time.Duration
}

// formerLeader is a broker that has led the stream of a cluster, and does not know yet that another broker leads. It answers queries from
// the part of the stream that it knows. The broker that leads now decides about appends.
type formerLeader struct {
	until time.Time
	last  uint64
}

// wrongAnswer is a wrong answer that the broker gives about the leader for a while, as in a partition.
type wrongAnswer struct {
	until time.Time
	gone  bool
}

// instance is one process with a relay. A fault can be injected into each call that its relay makes.
type instance struct {
	harness  *harness
	relay    *relaying.Relay
	notifier *memory.Notifier
	inner    relaying.Ports
	broker   *memory.Liveness // its connection to the broker
	cancel   context.CancelFunc

	mu      sync.Mutex
	dead    bool
	stalled time.Time // the process is frozen until then
	next    map[string]injectedFault
	former  formerLeader
	wrong   wrongAnswer

	restarts int // restarts of the broker before the last Open

	stream *memory.Stream // the stream of the broker that it is connected to
	limit  int            // largest payload that its server accepts; 0: no limit besides the stream's
	widens bool           // the limit ends at the next Look
}

func (h *harness) start(name string) *instance { return h.startAt(name, h.stream) }

// startAt starts an instance that is connected to the given broker, which may be the wrong one.
func (h *harness) startAt(name string, broker *memory.Stream) *instance {
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{
		harness: h, notifier: memory.NewNotifier(), cancel: cancel, next: make(map[string]injectedFault),
		broker: memory.NewLiveness(h.presence), stream: broker,
	}
	i.inner = relaying.Ports{
		Log: h.reader, Cursors: h.cursors, Publisher: h.publisher, Parking: h.parking, Retention: h.cursors,
		Elector: memory.NewElector(h.lease, name), Halts: h.halts.Of(name), Liveness: i.broker,
	}
	if h.breakPorts != nil {
		h.breakPorts(&i.inner)
	}
	if broker != h.stream {
		i.inner.Publisher = broker
	}
	if h.keepsLease {
		i.inner.Elector = &stickyElector{Elector: i.inner.Elector, ctx: ctx, running: &h.running}
	}
	i.relay = relaying.New(relaying.Ports{
		Log: i, Cursors: i, Publisher: i, Parking: i, Retention: i, Elector: i, Halts: i, Liveness: i, Notifier: i, Listener: i.notifier,
	}, relaying.Options{
		LeaseTTL: ttl, Poll: 500 * time.Millisecond, Batch: relay.ReadLimit{Count: 4, Bytes: 1 << 20}, Retention: retention,
	}, h.logger)
	h.running.Go(func() {
		if err := i.relay.Run(ctx); err != nil {
			h.complain("the relay ended: %v", err)
		}
	})
	return i
}

// crash kills the process: its relay cannot clean up.
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

// wait blocks while the process is frozen.
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

func (i *instance) inject(method string, p injectedFault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next[method] = p
}

// narrow limits the payloads that the instance's server accepts, like a server whose max_payload was not raised yet.
func (i *instance) narrow(limit int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.limit, i.widens = limit, false
}

// widenAtLook removes the limit at the next Look of the instance.
func (i *instance) widenAtLook() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.widens = true
}

// accepted returns how many entries of batch the instance's server accepts, and why it refuses the next one.
func (i *instance) accepted(batch []outbox.Entry) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, entry := range batch {
		if i.limit > 0 && len(entry.Payload) > i.limit {
			return n, &relay.RefusedError{Entry: entry, Reason: "it is larger than this server takes"}
		}
	}
	return len(batch), nil
}

// clearFaults removes all injected faults.
func (i *instance) clearFaults() {
	i.narrow(0)
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.next)
	i.former, i.wrong = formerLeader{}, wrongAnswer{}
}

// mislead lets the broker answer for a while that the leader is gone, or that it is there.
func (i *instance) mislead(gone bool, d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wrong = wrongAnswer{until: time.Now().Add(d), gone: gone}
}

// askFormer lets a former leader of the stream, which knows the messages up to last, answer for a while.
func (i *instance) askFormer(last uint64, d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.former = formerLeader{until: time.Now().Add(d), last: last}
}

// known returns the last sequence that the answering broker knows.
func (i *instance) known() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Now().After(i.former.until) {
		return math.MaxUint64
	}
	i.harness.hit("a former leader answered")
	return i.former.last
}

// info limits a StreamInfo to what the answering broker knows.
func (i *instance) info(info relay.StreamInfo, err error) (relay.StreamInfo, error) {
	info.LastSequence = min(info.LastSequence, i.known())
	return info, err
}

// call makes a request with the fault that was injected for the method. A request that has left still arrives when its caller gives up.
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
	i.harness.hit(method + ": " + p.kind.String())
	sent := context.WithoutCancel(ctx)
	if method == "After" {
		sent = ctx
	}
	switch p.kind {
	case failBefore:
		return none, errOutage
	case loseAnswer:
		_, _ = request(sent)
		return none, errOutage
	case arriveLate:
		i.harness.running.Go(func() {
			time.Sleep(p.delay)
			if _, err := request(sent); err == nil {
				i.harness.hit("late " + method + " took effect")
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
	if p.kind == stallAfter {
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
