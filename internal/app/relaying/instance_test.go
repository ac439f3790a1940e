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

// mishap is what happens to one call that an instance makes.
type faultKind int

const (
	noFault     faultKind = iota
	failBefore            // the request never arrives
	loseAnswer            // it arrives, but the answer does not
	arriveLate            // the caller gives up, and the request arrives afterwards
	crashBefore           // the process dies before the request leaves
	crashAfter            // the process dies when the request has arrived
	stallBefore           // the process stops (SIGSTOP) before the request leaves, and goes on later
	stallAfter            // the process stops when the request has arrived
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

// planned is a mishap that waits for a call of a method.
type injectedFault struct {
	kind  faultKind
	delay time.Duration
}

// former is a broker that led the stream of a cluster, and does not know yet that it does no longer: until then, what it is
// asked it answers with the stream's beginning. What it is sent is judged by its successor.
type formerLeader struct {
	until time.Time
	last  uint64
}

// lie is what a broker reports about the leader until a moment: in a partition, or while the leader reconnects.
type wrongAnswer struct {
	until time.Time
	gone  bool
}

// instance is one process: a relay whose every call to the outside can go wrong.
type instance struct {
	harness  *harness
	relay    *relaying.Relay
	notifier *memory.Notifier
	inner    relaying.Ports
	broker   *memory.Liveness // its connection, for what is announced
	cancel   context.CancelFunc

	mu      sync.Mutex
	dead    bool
	stalled time.Time // until when
	next    map[string]injectedFault
	former  formerLeader
	wrong   wrongAnswer

	restarts int // of the broker when the stream was opened

	stream *memory.Stream // of the broker that it is connected to
	limit  int            // of payloads, on its server; 0: none but the stream's
	widens bool           // the limit ends when the stream is looked at next
}

func (h *harness) start(name string) *instance { return h.startAt(name, h.stream) }

// startAt starts an instance that is connected to a broker, which may be the wrong one.
func (h *harness) startAt(name string, broker *memory.Stream) *instance {
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{
		harness: h, notifier: memory.NewNotifier(), cancel: cancel, next: make(map[string]injectedFault), broker: memory.NewLiveness(h.presence), stream: broker,
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

func (i *instance) inject(method string, p injectedFault) {
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

// spare forgets what was planned.
func (i *instance) clearFaults() {
	i.narrow(0)
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.next)
	i.former, i.wrong = formerLeader{}, wrongAnswer{}
}

// mislead lets the broker say for a while that the leader is gone, or that it is there.
func (i *instance) mislead(gone bool, d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.wrong = wrongAnswer{until: time.Now().Add(d), gone: gone}
}

// askFormer lets a former leader of the stream answer for a while, who knows the messages up to last.
func (i *instance) askFormer(last uint64, d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.former = formerLeader{until: time.Now().Add(d), last: last}
}

// known is the last sequence that whoever answers knows.
func (i *instance) known() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Now().After(i.former.until) {
		return math.MaxUint64
	}
	i.harness.hit("a former leader answered")
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
