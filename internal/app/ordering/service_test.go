package ordering_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const customer value.CustomerID = "550e8400-e29b-41d4-a716-446655440000"

var (
	amount = value.NewMoney(10050, "USD")
	// moment is finer than a microsecond and not in UTC. The service turns it into stored.
	moment = time.Date(2026, 11, 23, 13, 0, 0, 123456789, time.FixedZone("CET", 3600))
	stored = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
)

// fixture is the service with adapters in memory.
type fixture struct {
	*ordering.Service
	log      *memory.Log
	uow      *memory.UnitOfWork
	notifier *notifications
	lease    *memory.Lease
	cursors  *memory.CursorStore
	stream   *memory.Stream
}

func (s *fixture) get(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.Get(ctx, order.Anyone(), id)
}

// pay, ship and cancel change an order, each with fixed notes.
func (s *fixture) pay(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.Pay(ctx, order.Anyone(), id, "P-1", orders.Precondition{})
}

func (s *fixture) ship(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.Ship(ctx, order.Anyone(), id, "UPS", "1Z", orders.Precondition{})
}

func (s *fixture) cancel(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.Cancel(ctx, order.Anyone(), id, "too late", orders.Precondition{})
}

// notifications counts notifications, and keeps how many events were committed at the last notification.
type notifications struct {
	mu        sync.Mutex
	log       *memory.Log
	count     int
	committed int
}

func (r *notifications) Notify() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	r.committed = len(r.log.Committed())
}

func newFixture() *fixture {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	return newFixtureOver(log, uow, uow, codec.New(nil))
}

func newFixtureClock() time.Time { return moment }

func newFixtureOver(log *memory.Log, uow *memory.UnitOfWork, decorated orders.UnitOfWork, encoder orders.Encoder) *fixture {
	var last atomic.Int64
	newID := func() order.ID { return order.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", last.Add(1))) }
	s := &fixture{log: log, uow: uow, notifier: &notifications{log: log}, lease: memory.NewLease(time.Minute), stream: memory.NewStream()}
	s.stream.LimitSubjects("orders.")
	s.cursors = memory.NewCursorStore(s.lease, log)
	s.Service = ordering.New(ordering.Ports{
		Work: decorated, Orders: memory.NewOrderReader(uow), Encoder: encoder, Notifier: s.notifier, Log: s.cursors, Finder: s.stream,
	}, newID, newFixtureClock)
	return s
}

func (s *fixture) placed(t *testing.T) order.Snapshot {
	t.Helper()
	state, err := s.Place(t.Context(), order.Anyone(), customer, amount, "")
	require.NoError(t, err)
	return state
}

func (s *fixture) eventTypes() []string {
	var types []string
	for _, entry := range s.log.Committed() {
		types = append(types, entry.Type)
	}
	return types
}

func TestPlaceStoresOrderAndEvent(t *testing.T) {
	s := newFixture()
	state := s.placed(t)
	require.Equal(t, order.Snapshot{
		ID: state.ID, CustomerID: customer, Amount: amount, Status: order.StatusCreated, Version: 1, CreatedAt: stored,
	}, state)

	read, err := s.Get(t.Context(), order.Anyone(), state.ID)
	require.NoError(t, err)
	require.Equal(t, state, read, "a later GET says what the POST said")

	entries := s.log.Committed()
	require.Len(t, entries, 1)
	require.Equal(t, outbox.Key{Type: orders.AggregateType, ID: string(state.ID)}, entries[0].Key)
	event, err := codec.New(nil).Decode(entries[0].Message)
	require.NoError(t, err)
	require.Equal(t, order.Created{EventData: order.EventData{Order: state, At: stored}}, event)
	require.Equal(t, 1, s.notifier.count)
	require.Equal(t, 1, s.notifier.committed, "the bell rings after the commit")
}

func TestALifeIsOneEventPerVersion(t *testing.T) {
	s := newFixture()
	id := s.placed(t).ID
	paid, err := s.pay(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, order.StatusPaid, paid.Status)
	shipped, err := s.ship(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, order.StatusShipped, shipped.Status)
	require.EqualValues(t, 3, shipped.Version)
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped}, s.eventTypes())

	ids := map[string]bool{}
	for i, entry := range s.log.Committed() {
		require.EqualValues(t, i+1, entry.Version)
		ids[entry.ID] = true
	}
	require.Len(t, ids, 3, "every event has an id of its own")
	require.Equal(t, 3, s.notifier.count)

	other := s.placed(t)
	cancelled, err := s.cancel(t.Context(), other.ID)
	require.NoError(t, err)
	require.Equal(t, order.StatusCancelled, cancelled.Status)
	require.NotEqual(t, id, other.ID)
}

func TestARefusedChangeLeavesNothing(t *testing.T) {
	s := newFixture()
	id := s.placed(t).ID
	_, err := s.ship(t.Context(), id)
	require.ErrorIs(t, err, order.ErrStatus)
	_, err = s.Place(t.Context(), order.Anyone(), customer, value.NewMoney(0, "USD"), "")
	require.ErrorIs(t, err, value.ErrMoney)
	for _, verb := range []func(context.Context, order.ID) (order.Snapshot, error){s.pay, s.ship, s.cancel, s.get} {
		_, err = verb(t.Context(), "00000000-0000-7000-8000-00000000dead")
		require.ErrorIs(t, err, orders.ErrOrderNotFound)
	}
	require.Equal(t, []string{orders.TypeCreated}, s.eventTypes())
	require.Equal(t, 1, s.notifier.count)
}

func TestAFailingCommitKeepsNothingAndWakesNobody(t *testing.T) {
	s := newFixture()
	s.uow.FailNextCommit()
	state, err := s.Place(t.Context(), order.Anyone(), customer, amount, "")
	require.Error(t, err)
	require.Zero(t, state)
	require.Empty(t, s.log.Committed())
	require.Zero(t, s.notifier.count)

	id := s.placed(t).ID
	s.uow.FailNextCommit()
	_, err = s.pay(t.Context(), id)
	require.Error(t, err)
	read, err := s.Get(t.Context(), order.Anyone(), id)
	require.NoError(t, err)
	require.Equal(t, order.StatusCreated, read.Status)
	require.Equal(t, []string{orders.TypeCreated}, s.eventTypes())
	require.Equal(t, 1, s.notifier.count)
}

type failingEncoder struct{ err error }

func (e failingEncoder) Encode(order.Event, order.Principal) (outbox.Message, error) {
	return outbox.Message{}, e.err
}

func TestAnEventThatCannotBeEncodedKeepsTheOrderOut(t *testing.T) {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	broken := errors.New("no such event")
	s := newFixtureOver(log, uow, uow, failingEncoder{broken})
	_, err := s.Place(t.Context(), order.Anyone(), customer, amount, "")
	require.ErrorIs(t, err, broken)
	_, err = s.Get(t.Context(), order.Anyone(), "00000000-0000-7000-8000-000000000001")
	require.ErrorIs(t, err, orders.ErrOrderNotFound)
	require.Zero(t, s.notifier.count)
}

func TestConcurrentPaysAreOneEvent(t *testing.T) {
	s := newFixture()
	id := s.placed(t).ID
	const payers = 16
	answers := make(chan order.Snapshot, payers)
	var paying sync.WaitGroup
	for range payers {
		paying.Go(func() {
			paid, err := s.pay(context.Background(), id)
			if err != nil {
				t.Error(err)
			}
			answers <- paid
		})
	}
	paying.Wait()
	close(answers)
	for paid := range answers {
		require.Equal(t, []any{order.StatusPaid, int64(2)}, []any{paid.Status, paid.Version})
	}
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid}, s.eventTypes())
}

func TestListTellsWhetherThereIsMore(t *testing.T) {
	s := newFixture()
	for range 3 {
		s.placed(t)
	}
	for limit, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3} {
		page, err := s.List(t.Context(), order.Anyone(), orders.Filter{Limit: limit})
		require.NoError(t, err)
		require.Len(t, page.Orders, want)
		require.Equal(t, limit < 3, page.Next != nil)
		if page.Next != nil {
			last := page.Orders[want-1]
			require.Equal(t, orders.PageCursor{CreatedAt: last.CreatedAt, ID: last.ID}, *page.Next)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.List(ctx, order.Anyone(), orders.Filter{Limit: 1})
	require.ErrorIs(t, err, context.Canceled)
}

// contended is a unit of work that fails losses times, because somebody else has changed the order first.
type contended struct {
	orders.UnitOfWork
	losses   int
	attempts int
}

func (c *contended) Do(ctx context.Context, fn func(context.Context, orders.Tx) error) error {
	c.attempts++
	if c.losses == 0 {
		return c.UnitOfWork.Do(ctx, fn)
	}
	c.losses--
	return c.UnitOfWork.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return orders.ErrOrderChanged.With("somebody was faster")
	})
}

func TestALostRaceIsRunAgainWithinBounds(t *testing.T) {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	race := &contended{UnitOfWork: uow}
	s := newFixtureOver(log, uow, race, codec.New(nil))
	id := s.placed(t).ID

	race.losses, race.attempts = 4, 0
	paid, err := s.pay(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 2, paid.Version)
	require.Equal(t, 5, race.attempts)

	race.losses, race.attempts = 1000, 0
	_, err = s.ship(t.Context(), id)
	require.ErrorIs(t, err, orders.ErrOrderChanged)
	require.Equal(t, 5, race.attempts)
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid}, s.eventTypes())
	require.Equal(t, 2, s.notifier.count)
}

func TestAnEndedContextEndsTheCall(t *testing.T) {
	s := newFixture()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Place(ctx, order.Anyone(), customer, amount, "")
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, s.log.Committed())
	require.Zero(t, s.notifier.count)
}
