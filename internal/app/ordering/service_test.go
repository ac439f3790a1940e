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
	ports "github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

const customer order.CustomerID = "550e8400-e29b-41d4-a716-446655440000"

var (
	amount = order.NewMoney(10050, "USD")
	// moment is finer than a microsecond and not in UTC: both must not reach the order.
	moment = time.Date(2026, 11, 23, 13, 0, 0, 123456789, time.FixedZone("CET", 3600))
	stored = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
)

// shop is the service over memory.
type shop struct {
	*ordering.Service
	log   *memory.Log
	uow   *memory.UnitOfWork
	rings *rings
}

// rings counts wake-ups, and how many events were committed at the last one.
type rings struct {
	mu        sync.Mutex
	log       *memory.Log
	count     int
	committed int
}

func (r *rings) Wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	r.committed = len(r.log.Committed())
}

func newShop() *shop {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	return newShopOver(log, uow, uow, codec.New(nil))
}

func newShopOver(log *memory.Log, uow *memory.UnitOfWork, decorated ports.UnitOfWork, encoder ports.Encoder) *shop {
	var last atomic.Int64
	newID := func() order.ID { return order.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", last.Add(1))) }
	s := &shop{log: log, uow: uow, rings: &rings{log: log}}
	s.Service = ordering.New(decorated, encoder, newID, func() time.Time { return moment }, s.rings)
	return s
}

func (s *shop) placed(t *testing.T) order.Snapshot {
	t.Helper()
	state, err := s.Place(t.Context(), customer, amount, "")
	require.NoError(t, err)
	return state
}

func (s *shop) eventTypes() []string {
	var types []string
	for _, entry := range s.log.Committed() {
		types = append(types, entry.Type)
	}
	return types
}

func TestPlaceStoresOrderAndEvent(t *testing.T) {
	s := newShop()
	state := s.placed(t)
	require.Equal(t, order.Snapshot{
		ID: state.ID, CustomerID: customer, Amount: amount, Status: order.StatusCreated, Version: 1, CreatedAt: stored,
	}, state)

	read, err := s.Get(t.Context(), state.ID)
	require.NoError(t, err)
	require.Equal(t, state, read, "a later GET says what the POST said")

	entries := s.log.Committed()
	require.Len(t, entries, 1)
	require.Equal(t, outbox.Key{Type: codec.KeyType, ID: string(state.ID)}, entries[0].Key)
	event, err := codec.New(nil).Decode(entries[0].Message)
	require.NoError(t, err)
	require.Equal(t, order.Created{Fact: order.Fact{Order: state, At: stored}}, event)
	require.Equal(t, 1, s.rings.count)
	require.Equal(t, 1, s.rings.committed, "the bell rings after the commit")
}

// TestAKeyGivesTheFirstAnswerAgain : whatever happened to the order since, and nothing happens again.
func TestAKeyGivesTheFirstAnswerAgain(t *testing.T) {
	s := newShop()
	first, err := s.Place(t.Context(), customer, amount, "k")
	require.NoError(t, err)
	for _, change := range []func(context.Context, order.ID) (order.Snapshot, error){s.Get, s.Pay, s.Ship} {
		changed, err := change(t.Context(), first.ID)
		require.NoError(t, err)
		again, err := s.Place(t.Context(), customer, amount, "k")
		require.NoError(t, err)
		require.Equal(t, first, again)
		now, err := s.Get(t.Context(), first.ID)
		require.NoError(t, err)
		require.Equal(t, changed, now)
	}
	require.Equal(t, []string{codec.TypeCreated, codec.TypePaid, codec.TypeShipped}, s.eventTypes())
	require.Equal(t, 6, s.rings.count, "whoever was first may not have rung")

	for _, key := range []ports.Key{"K", "", ""} {
		other, err := s.Place(t.Context(), customer, amount, key)
		require.NoError(t, err)
		require.NotEqual(t, first.ID, other.ID)
		first = other
	}
}

func TestAKeyIsForOneRequest(t *testing.T) {
	s := newShop()
	first, err := s.Place(t.Context(), customer, amount, "k")
	require.NoError(t, err)
	for _, other := range []struct {
		customer order.CustomerID
		amount   order.Money
	}{
		{"550e8400-e29b-41d4-a716-446655440001", amount},
		{customer, order.NewMoney(10051, "USD")},
		{customer, order.NewMoney(10050, "EUR")},
	} {
		_, err := s.Place(t.Context(), other.customer, other.amount, "k")
		require.ErrorIs(t, err, ports.ErrKeyReused)
	}
	require.Len(t, s.eventTypes(), 1)

	s.uow.AgeKeys(ports.KeyLifetime)
	second, err := s.Place(t.Context(), customer, order.NewMoney(1, "JPY"), "k")
	require.NoError(t, err)
	require.NotEqual(t, first.ID, second.ID)
	_, err = s.Place(t.Context(), customer, amount, "k")
	require.ErrorIs(t, err, ports.ErrKeyReused)
}

// TestAFailureLeavesTheKeyFree : what was not done can be asked for again, and differently.
func TestAFailureLeavesTheKeyFree(t *testing.T) {
	s := newShop()
	_, err := s.Place(t.Context(), customer, order.NewMoney(0, "USD"), "k")
	require.ErrorIs(t, err, order.ErrMoney)
	s.uow.FailNextCommit()
	_, err = s.Place(t.Context(), customer, order.NewMoney(1, "USD"), "k")
	require.Error(t, err)
	_, err = s.Place(t.Context(), customer, amount, "k")
	require.NoError(t, err)
	require.Len(t, s.eventTypes(), 1)
	require.Equal(t, 1, s.rings.count)
}

func TestConcurrentPlacesWithOneKeyAreOneOrder(t *testing.T) {
	s := newShop()
	const clients = 16
	answers := make(chan order.Snapshot, clients)
	var placing sync.WaitGroup
	for range clients {
		placing.Go(func() {
			placed, err := s.Place(context.Background(), customer, amount, "k")
			if err != nil {
				t.Error(err)
			}
			answers <- placed
		})
	}
	placing.Wait()
	close(answers)
	first := <-answers
	for answer := range answers {
		require.Equal(t, first, answer)
	}
	require.Equal(t, []string{codec.TypeCreated}, s.eventTypes())
}

func TestALifeIsOneEventPerVersion(t *testing.T) {
	s := newShop()
	id := s.placed(t).ID
	paid, err := s.Pay(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, order.StatusPaid, paid.Status)
	shipped, err := s.Ship(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, order.StatusShipped, shipped.Status)
	require.EqualValues(t, 3, shipped.Version)
	require.Equal(t, []string{codec.TypeCreated, codec.TypePaid, codec.TypeShipped}, s.eventTypes())

	ids := map[string]bool{}
	for i, entry := range s.log.Committed() {
		require.EqualValues(t, i+1, entry.Version)
		ids[entry.ID] = true
	}
	require.Len(t, ids, 3, "every event has an id of its own")
	require.Equal(t, 3, s.rings.count)

	other := s.placed(t)
	cancelled, err := s.Cancel(t.Context(), other.ID)
	require.NoError(t, err)
	require.Equal(t, order.StatusCancelled, cancelled.Status)
	require.NotEqual(t, id, other.ID)
}

func TestARefusedChangeLeavesNothing(t *testing.T) {
	s := newShop()
	id := s.placed(t).ID
	_, err := s.Ship(t.Context(), id)
	require.ErrorIs(t, err, order.ErrStatus)
	_, err = s.Place(t.Context(), customer, order.NewMoney(0, "USD"), "")
	require.ErrorIs(t, err, order.ErrMoney)
	for _, verb := range []func(context.Context, order.ID) (order.Snapshot, error){s.Pay, s.Ship, s.Cancel, s.Get} {
		_, err = verb(t.Context(), "00000000-0000-7000-8000-00000000dead")
		require.ErrorIs(t, err, ports.ErrOrderNotFound)
	}
	require.Equal(t, []string{codec.TypeCreated}, s.eventTypes())
	require.Equal(t, 1, s.rings.count)
}

func TestAFailingCommitKeepsNothingAndWakesNobody(t *testing.T) {
	s := newShop()
	s.uow.FailNextCommit()
	state, err := s.Place(t.Context(), customer, amount, "")
	require.Error(t, err)
	require.Zero(t, state)
	require.Empty(t, s.log.Committed())
	require.Zero(t, s.rings.count)

	id := s.placed(t).ID
	s.uow.FailNextCommit()
	_, err = s.Pay(t.Context(), id)
	require.Error(t, err)
	read, err := s.Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, order.StatusCreated, read.Status)
	require.Equal(t, []string{codec.TypeCreated}, s.eventTypes())
	require.Equal(t, 1, s.rings.count)
}

type failingEncoder struct{ err error }

func (e failingEncoder) Encode(order.Event) (outbox.Message, error) { return outbox.Message{}, e.err }

func TestAnEventThatCannotBeEncodedKeepsTheOrderOut(t *testing.T) {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	broken := errors.New("no such event")
	s := newShopOver(log, uow, uow, failingEncoder{broken})
	_, err := s.Place(t.Context(), customer, amount, "")
	require.ErrorIs(t, err, broken)
	_, err = s.Get(t.Context(), "00000000-0000-7000-8000-000000000001")
	require.ErrorIs(t, err, ports.ErrOrderNotFound)
	require.Zero(t, s.rings.count)
}

func TestConcurrentPaysAreOneEvent(t *testing.T) {
	s := newShop()
	id := s.placed(t).ID
	var paid, refused atomic.Int64
	var payers sync.WaitGroup
	for range 16 {
		payers.Go(func() {
			switch _, err := s.Pay(context.Background(), id); {
			case err == nil:
				paid.Add(1)
			case errors.Is(err, order.ErrStatus):
				refused.Add(1)
			}
		})
	}
	payers.Wait()
	require.EqualValues(t, 1, paid.Load())
	require.EqualValues(t, 15, refused.Load(), "the others were told what is, not that somebody was faster")
	require.Equal(t, []string{codec.TypeCreated, codec.TypePaid}, s.eventTypes())
	require.Equal(t, 2, s.rings.count)
}

// contended is a unit of work in which somebody else is faster a number of times.
type contended struct {
	ports.UnitOfWork
	losses   int
	attempts int
}

func (c *contended) Do(ctx context.Context, fn func(context.Context, ports.Tx) error) error {
	c.attempts++
	if c.losses == 0 {
		return c.UnitOfWork.Do(ctx, fn)
	}
	c.losses--
	return c.UnitOfWork.Do(ctx, func(ctx context.Context, tx ports.Tx) error {
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return ports.ErrOrderChanged.With("somebody was faster")
	})
}

func TestALostRaceIsRunAgainWithinBounds(t *testing.T) {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	race := &contended{UnitOfWork: uow}
	s := newShopOver(log, uow, race, codec.New(nil))
	id := s.placed(t).ID

	race.losses, race.attempts = 4, 0
	paid, err := s.Pay(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 2, paid.Version)
	require.Equal(t, 5, race.attempts)

	race.losses, race.attempts = 1000, 0
	_, err = s.Ship(t.Context(), id)
	require.ErrorIs(t, err, ports.ErrOrderChanged)
	require.Equal(t, 5, race.attempts)
	require.Equal(t, []string{codec.TypeCreated, codec.TypePaid}, s.eventTypes())
	require.Equal(t, 2, s.rings.count)
}

func TestAnEndedContextEndsTheCall(t *testing.T) {
	s := newShop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Place(ctx, customer, amount, "")
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, s.log.Committed())
	require.Zero(t, s.rings.count)
}
