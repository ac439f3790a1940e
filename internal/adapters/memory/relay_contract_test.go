package memory_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/operationstest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func TestLog(t *testing.T) {
	relaytest.TestLog(t, func(*testing.T) relaytest.LogHarness { return newEngine() })
}

func TestElector(t *testing.T) {
	relaytest.TestElector(t, func(*testing.T) relaytest.ElectorHarness { return newEngine() })
}

func TestSequence(t *testing.T) {
	relaytest.TestSequence(t, func(*testing.T) relaytest.ParkingHarness { return newEngine() })
}

func TestCursorStore(t *testing.T) {
	relaytest.TestCursorStore(t, func(*testing.T) relaytest.CursorHarness { return newEngine() })
}

func TestPublisher(t *testing.T) {
	relaytest.TestPublisher(t, func(*testing.T) relaytest.StreamHarness { return newEngine() })
}

func TestParking(t *testing.T) {
	relaytest.TestParking(t, func(*testing.T) relaytest.ParkingHarness { return newEngine() })
}

func TestRetention(t *testing.T) {
	relaytest.TestRetention(t, func(*testing.T) relaytest.RetentionHarness { return newEngine() })
}

func TestRelayRepair(t *testing.T) {
	operationstest.TestRelayRepair(t, func(*testing.T) operationstest.RelayRepairHarness { return newEngine() })
}

func TestEventLog(t *testing.T) {
	operationstest.TestEventLog(t, func(*testing.T) operationstest.EventLogHarness { return newEngine() })
}

func TestFinder(t *testing.T) {
	relaytest.TestFinder(t, func(*testing.T) relaytest.FinderHarness { return newEngine() })
}

var errLine = fault.New(fault.Unavailable, "line_cut", "the line to memory is cut")

// engine has all ports of a relay, behind a line that tests can cut.
type engine struct {
	log     *memory.Log
	lease   *memory.Lease
	cursors *memory.CursorStore
	parking *memory.Parking
	stream  *memory.Stream

	mu     sync.Mutex
	live   context.Context
	count  int // how many lines there were
	cutOff context.CancelCauseFunc
}

func newEngine() *engine {
	e := &engine{log: memory.NewLog(), lease: memory.NewLease(time.Minute), stream: memory.NewStream()}
	e.cursors = memory.NewCursorStore(e.lease, e.log)
	e.parking = memory.NewParking(e.cursors)
	e.connect()
	return e
}

func (e *engine) connect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live, e.cutOff = context.WithCancelCause(context.Background())
	e.count++
}

func (e *engine) lines() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
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

func (e *engine) Log() relay.Log                        { return line{e} }
func (e *engine) Store() relay.CursorStore              { return line{e} }
func (e *engine) Publisher() relay.StreamRepair         { return &publisherLine{e: e} }
func (e *engine) Parking() relay.Parking                { return line{e} }
func (e *engine) ParkingAdmin() operations.ParkingAdmin { return line{e} }
func (e *engine) Retention() relay.Retention            { return line{e} }
func (e *engine) RelayRepair() operations.RelayRepair   { return e.cursors }
func (e *engine) EventLog() operations.EventLog         { return e.cursors }
func (e *engine) Finder() relay.Finder                  { return line{e} }
func (e *engine) Elector(holder string) relay.Elector {
	return electorLine{e, memory.NewElector(e.lease, holder)}
}

func (e *engine) TTL() time.Duration                                 { return time.Minute }
func (e *engine) Advance(_ *testing.T, by time.Duration)             { e.lease.Advance(by) }
func (e *engine) Begin(context.Context) (relaytest.LogWriter, error) { return e.log.Begin(), nil }
func (e *engine) Age(_ *testing.T, by time.Duration)                 { e.log.Age(by) }
func (e *engine) Purge(_ *testing.T, upTo outbox.Position)           { e.log.Purge(upTo) }
func (e *engine) LoseCommits(_ *testing.T, after outbox.Position)    { e.log.LoseAfter(after) }
func (e *engine) Spoil(_ *testing.T, at outbox.Position)             { e.log.MakeUnpublishable(at) }
func (e *engine) SetHeaders(_ *testing.T, at outbox.Position, headers map[string]string) {
	e.log.SetHeaders(at, headers)
}
func (e *engine) SetSequence(_ *testing.T, p outbox.Position) { e.log.SetSequence(p) }
func (e *engine) AppendForeign(*testing.T)                    { e.stream.AppendForeign() }
func (e *engine) Delete(_ *testing.T, sequence uint64)        { e.stream.Delete(sequence) }
func (e *engine) Drop(*testing.T)                             { e.stream.Drop() }
func (e *engine) TooLarge() int                               { return 1<<20 + 1 }
func (e *engine) Misconfigure(*testing.T) (repair func()) {
	e.stream.Misconfigure("somebody has changed it")
	return func() { e.stream.Misconfigure("") }
}
func (e *engine) ForeignSubject() string           { return "somebody.elses" }
func (e *engine) Stored(*testing.T) []outbox.Entry { return e.stream.Entries() }

type line struct{ e *engine }

func (l line) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	return through(ctx, l.e, func(ctx context.Context) (relay.Page, error) { return l.e.log.After(ctx, from, limit) })
}

func (l line) Verify(ctx context.Context, reached outbox.Progress, sequence uint64) (bool, error) {
	return through(ctx, l.e, func(ctx context.Context) (bool, error) { return l.e.log.Verify(ctx, reached, sequence) })
}

func (l line) Find(ctx context.Context, event outbox.Progress, sequence uint64) (time.Time, error) {
	return through(ctx, l.e, func(ctx context.Context) (time.Time, error) { return l.e.stream.Find(ctx, event, sequence) })
}

func (l line) Load(ctx context.Context) (relay.Cursor, error) {
	return through(ctx, l.e, l.e.cursors.Load)
}

func (l line) Save(ctx context.Context, turn relay.WriteFence, cursor relay.Cursor) (relay.Cursor, error) {
	return through(ctx, l.e, func(ctx context.Context) (relay.Cursor, error) { return l.e.cursors.Save(ctx, turn, cursor) })
}

func (l line) Report(ctx context.Context, turn relay.WriteFence, halt *relay.Halt) error {
	return l.do(ctx, func(ctx context.Context) error { return l.e.cursors.Report(ctx, turn, halt) })
}

func (l line) Reconcile(
	ctx context.Context, turn relay.WriteFence, tail relay.MessageMeta, sequence uint64, end bool,
) (relay.ParkingSummary, error) {
	return through(ctx, l.e, func(ctx context.Context) (relay.ParkingSummary, error) {
		return l.e.parking.Reconcile(ctx, turn, tail, sequence, end)
	})
}

func (l line) SetAside(ctx context.Context, turn relay.WriteFence, entries []outbox.Entry) ([]outbox.Position, error) {
	return through(ctx, l.e, func(ctx context.Context) ([]outbox.Position, error) { return l.e.parking.SetAside(ctx, turn, entries) })
}

func (l line) Due(ctx context.Context, upTo outbox.Position, limit relay.ReadLimit) (due []outbox.Entry, waiting bool, err error) {
	err = l.do(ctx, func(ctx context.Context) (err error) {
		due, waiting, err = l.e.parking.Due(ctx, upTo, limit)
		return err
	})
	return due, waiting, err
}

func (l line) Refuse(ctx context.Context, turn relay.WriteFence, entry outbox.Entry, reason string) error {
	return l.do(ctx, func(ctx context.Context) error { return l.e.parking.Refuse(ctx, turn, entry, reason) })
}

func (l line) Redrive(ctx context.Context, key *outbox.Key) (int, error) {
	return through(ctx, l.e, func(ctx context.Context) (int, error) { return l.e.parking.Redrive(ctx, key) })
}

func (l line) Discard(ctx context.Context, position outbox.Position) error {
	return l.do(ctx, func(ctx context.Context) error { return l.e.parking.Discard(ctx, position) })
}

func (l line) Waiting(ctx context.Context, limit int) ([]relay.ParkedEvent, error) {
	return through(ctx, l.e, func(ctx context.Context) ([]relay.ParkedEvent, error) { return l.e.parking.Waiting(ctx, limit) })
}

func (l line) Undecided(ctx context.Context, after outbox.Key, limit int) ([]operations.UndecidedEvent, error) {
	return through(ctx, l.e, func(ctx context.Context) ([]operations.UndecidedEvent, error) {
		return l.e.parking.Undecided(ctx, after, limit)
	})
}

func (l line) EachUndecided(ctx context.Context, visit func(operations.UndecidedEvent) bool) error {
	return l.do(ctx, func(ctx context.Context) error { return l.e.parking.EachUndecided(ctx, visit) })
}

func (l line) RedriveChosen(ctx context.Context, positions []outbox.Position, choice operations.Choice) (int, error) {
	return through(ctx, l.e, func(ctx context.Context) (int, error) { return l.e.parking.RedriveChosen(ctx, positions, choice) })
}

func (l line) DiscardChosen(ctx context.Context, positions []outbox.Position, choice operations.Choice) (int, error) {
	return through(ctx, l.e, func(ctx context.Context) (int, error) { return l.e.parking.DiscardChosen(ctx, positions, choice) })
}

func (l line) Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error) {
	return through(ctx, l.e, func(ctx context.Context) (int, error) { return l.e.cursors.Purge(ctx, token, age, limit) })
}

func (l line) do(ctx context.Context, call func(context.Context) error) error {
	_, err := through(ctx, l.e, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

// publisherLine notices that the line was cut after the stream was opened.
type publisherLine struct {
	e      *engine
	opened int // the number of the line over which the stream was opened, from 1; 0: none
}

func (l *publisherLine) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	lines := l.e.lines()
	info, err := through(ctx, l.e, func(ctx context.Context) (relay.StreamInfo, error) { return l.e.stream.Open(ctx, first) })
	if err == nil {
		l.opened, info.Session = lines, uint64(lines)
	}
	return info, err
}

func (l *publisherLine) Look(ctx context.Context) (relay.StreamInfo, error) {
	lines := l.e.lines()
	info, err := through(ctx, l.e, l.e.stream.Look)
	if err == nil {
		info.Session = uint64(lines)
	}
	return info, err
}

func (l *publisherLine) Raise(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	return through(ctx, l.e, func(ctx context.Context) (relay.StreamInfo, error) { return l.e.stream.Raise(ctx, first) })
}

func (l *publisherLine) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	return through(ctx, l.e, func(ctx context.Context) (relay.MessageMeta, error) { return l.e.stream.At(ctx, sequence) })
}

func (l *publisherLine) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return l.send(ctx, after, func(ctx context.Context) (uint64, error) { return l.e.stream.Publish(ctx, after, batch) })
}

func (l *publisherLine) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return l.send(ctx, after, func(ctx context.Context) (uint64, error) { return l.e.stream.Redrive(ctx, after, at, batch) })
}

func (l *publisherLine) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	return l.send(ctx, after, func(ctx context.Context) (uint64, error) { return l.e.stream.PublishControl(ctx, after, notice) })
}

func (l *publisherLine) send(ctx context.Context, after uint64, call func(context.Context) (uint64, error)) (uint64, error) {
	last, err := through(ctx, l.e, func(ctx context.Context) (uint64, error) {
		if l.opened != 0 && l.opened != l.e.lines() {
			return after, relay.ErrTailMoved
		}
		return call(ctx)
	})
	return max(after, last), err
}

type electorLine struct {
	e     *engine
	inner relay.Elector
}

func (l electorLine) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	return through(ctx, l.e, func(ctx context.Context) (relay.Term, error) { return l.inner.Acquire(ctx, gone) })
}

func (l electorLine) Renew(ctx context.Context, term relay.Term) (relay.Term, error) {
	return through(ctx, l.e, func(ctx context.Context) (relay.Term, error) { return l.inner.Renew(ctx, term) })
}

func (l electorLine) Resign(ctx context.Context, term relay.Term) error {
	_, err := through(ctx, l.e, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.inner.Resign(ctx, term) })
	return err
}

func TestNotifier(t *testing.T) {
	relaytest.TestNotifier(t, func(*testing.T) relaytest.NotifierHarness { return lonely{newEngine(), memory.NewNotifier()} })
}

// lonely has only one instance, so there is no connection between notifiers that a test can cut.
type lonely struct {
	*engine
	bell *memory.Notifier
}

func (l lonely) Notifier() relaytest.Notifier { return l.bell }
func (lonely) Other() relaytest.Notifier      { return nil }

func TestInstanceHalts(t *testing.T) {
	relaytest.TestInstanceHalts(t, func(*testing.T) relaytest.HaltsHarness { return haltsHarness{memory.NewHalts()} })
}

type haltsHarness struct{ halts *memory.Halts }

func (h haltsHarness) InstanceHalts(instance string) relay.InstanceHalts { return h.halts.Of(instance) }

func (h haltsHarness) Reported(*testing.T) []operations.InstanceHalt { return h.halts.Reported() }
func (h haltsHarness) Age(_ *testing.T, by time.Duration)            { h.halts.Age(by) }
