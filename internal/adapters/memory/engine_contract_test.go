package memory_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestLog(t *testing.T) {
	outboxtest.TestLog(t, func(*testing.T) outboxtest.LogHarness { return newEngine() })
}

func TestElector(t *testing.T) {
	outboxtest.TestElector(t, func(*testing.T) outboxtest.ElectorHarness { return newEngine() })
}

func TestCursorStore(t *testing.T) {
	outboxtest.TestCursorStore(t, func(*testing.T) outboxtest.CursorHarness { return newEngine() })
}

func TestPublisher(t *testing.T) {
	outboxtest.TestPublisher(t, func(*testing.T) outboxtest.StreamHarness { return newEngine() })
}

var errLine = fault.New(fault.Unavailable, "line_cut", "the line to memory is cut")

// engine is every port of the engine at the end of a line that can be cut.
type engine struct {
	log     *memory.Log
	lease   *memory.Lease
	cursors *memory.CursorStore
	stream  *memory.Stream

	mu     sync.Mutex
	live   context.Context
	cutOff context.CancelCauseFunc
}

func newEngine() *engine {
	e := &engine{log: memory.NewLog(), lease: memory.NewLease(time.Minute), stream: memory.NewStream()}
	e.cursors = memory.NewCursorStore(e.lease, e.log)
	e.connect()
	return e
}

func (e *engine) connect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live, e.cutOff = context.WithCancelCause(context.Background())
}

func (e *engine) Disconnect(*testing.T) { e.cutOff(errLine) }
func (e *engine) Reconnect(*testing.T)  { e.connect() }

// through makes a call over the line.
func through[T any](ctx context.Context, e *engine, call func(context.Context) (T, error)) (T, error) {
	e.mu.Lock()
	live := e.live
	e.mu.Unlock()
	var none T
	if live.Err() != nil {
		return none, errLine
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(live, cancel)()
	answer, err := call(ctx)
	if live.Err() != nil {
		return none, errLine
	}
	return answer, err
}

func (e *engine) Log() ports.Log             { return line{e} }
func (e *engine) Store() ports.CursorStore   { return line{e} }
func (e *engine) Publisher() ports.Publisher { return line{e} }
func (e *engine) Elector(holder string) ports.Elector {
	return electorLine{e, memory.NewElector(e.lease, holder)}
}

func (e *engine) TTL() time.Duration                                  { return time.Minute }
func (e *engine) Advance(_ *testing.T, by time.Duration)              { e.lease.Advance(by) }
func (e *engine) Begin(context.Context) (outboxtest.LogWriter, error) { return e.log.Begin(), nil }
func (e *engine) Purge(_ *testing.T, upTo outbox.Position)            { e.log.Purge(upTo) }
func (e *engine) Forget(_ *testing.T, after outbox.Position)          { e.log.Forget(after) }
func (e *engine) AppendForeign(*testing.T)                            { e.stream.AppendForeign() }
func (e *engine) Delete(_ *testing.T, sequence uint64)                { e.stream.Delete(sequence) }
func (e *engine) Drop(*testing.T)                                     { e.stream.Drop() }
func (e *engine) TooLarge() int                                       { return 1<<20 + 1 }
func (e *engine) ForeignSubject() string                              { return "somebody.elses" }
func (e *engine) Stored(*testing.T) []outbox.Entry                    { return e.stream.Entries() }

type line struct{ e *engine }

func (l line) After(ctx context.Context, from outbox.Progress, limit outbox.Slice) ([]outbox.Entry, error) {
	return through(ctx, l.e, func(ctx context.Context) ([]outbox.Entry, error) { return l.e.log.After(ctx, from, limit) })
}

func (l line) Load(ctx context.Context) (outbox.Cursor, error) {
	return through(ctx, l.e, l.e.cursors.Load)
}

func (l line) Save(ctx context.Context, term outbox.Term, cursor outbox.Cursor) (outbox.Cursor, error) {
	return through(ctx, l.e, func(ctx context.Context) (outbox.Cursor, error) { return l.e.cursors.Save(ctx, term, cursor) })
}

func (l line) Open(ctx context.Context, create bool) (ports.StreamInfo, error) {
	return through(ctx, l.e, func(ctx context.Context) (ports.StreamInfo, error) { return l.e.stream.Open(ctx, create) })
}

func (l line) At(ctx context.Context, sequence uint64) (ports.Stamp, error) {
	return through(ctx, l.e, func(ctx context.Context) (ports.Stamp, error) { return l.e.stream.At(ctx, sequence) })
}

func (l line) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	last, err := through(ctx, l.e, func(ctx context.Context) (uint64, error) { return l.e.stream.Publish(ctx, after, batch) })
	return max(after, last), err
}

type electorLine struct {
	e     *engine
	inner ports.Elector
}

func (l electorLine) Acquire(ctx context.Context) (outbox.Term, error) {
	return through(ctx, l.e, l.inner.Acquire)
}

func (l electorLine) Renew(ctx context.Context, term outbox.Term) (outbox.Term, error) {
	return through(ctx, l.e, func(ctx context.Context) (outbox.Term, error) { return l.inner.Renew(ctx, term) })
}

func (l electorLine) Resign(ctx context.Context, term outbox.Term) error {
	_, err := through(ctx, l.e, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.inner.Resign(ctx, term) })
	return err
}

func TestWaker(t *testing.T) {
	outboxtest.TestWaker(t, func(*testing.T) outboxtest.BellHarness { return lonely{newEngine(), memory.NewBell()} })
}

// lonely is the only instance: there is no line to cut between bells.
type lonely struct {
	*engine
	bell *memory.Bell
}

func (l lonely) Bell() outboxtest.Bell { return l.bell }
func (lonely) Other() outboxtest.Bell  { return nil }
