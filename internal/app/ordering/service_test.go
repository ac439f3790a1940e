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
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const customer order.CustomerID = "550e8400-e29b-41d4-a716-446655440000"

var (
	amount = order.NewMoney(10050, "USD")
	// moment is finer than a microsecond and not in UTC. The service turns it into stored.
	moment = time.Date(2026, 11, 23, 13, 0, 0, 123456789, time.FixedZone("CET", 3600))
	stored = time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
)

// shop is the service with adapters in memory.
type shop struct {
	*ordering.Service
	log     *memory.Log
	uow     *memory.UnitOfWork
	rings   *rings
	lease   *memory.Lease
	cursors *memory.CursorStore
	stream  *memory.Stream
}

// pay, ship and cancel change an order, each with fixed notes.
func (s *shop) pay(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.Pay(ctx, id, "P-1", orders.Precondition{})
}

func (s *shop) ship(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.Ship(ctx, id, "UPS", "1Z", orders.Precondition{})
}

func (s *shop) cancel(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.Cancel(ctx, id, "too late", orders.Precondition{})
}

// rings counts notifications, and keeps how many events were committed at the last notification.
type rings struct {
	mu        sync.Mutex
	log       *memory.Log
	count     int
	committed int
}

func (r *rings) Notify() {
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

func newShopOver(log *memory.Log, uow *memory.UnitOfWork, decorated orders.UnitOfWork, encoder orders.Encoder) *shop {
	var last atomic.Int64
	newID := func() order.ID { return order.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", last.Add(1))) }
	s := &shop{log: log, uow: uow, rings: &rings{log: log}, lease: memory.NewLease(time.Minute), stream: memory.NewStream()}
	s.cursors = memory.NewCursorStore(s.lease, log)
	s.Service = ordering.New(ordering.Ports{
		Work: decorated, Encoder: encoder, Notifier: s.rings, Log: s.cursors, Finder: s.stream,
	}, newID, func() time.Time { return moment })
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
	require.Equal(t, outbox.Key{Type: orders.AggregateType, ID: string(state.ID)}, entries[0].Key)
	event, err := codec.New(nil).Decode(entries[0].Message)
	require.NoError(t, err)
	require.Equal(t, order.Created{EventData: order.EventData{Order: state, At: stored}}, event)
	require.Equal(t, 1, s.rings.count)
	require.Equal(t, 1, s.rings.committed, "the bell rings after the commit")
}

// TestAKeyGivesTheFirstAnswerAgain checks that a repeated request changes nothing and gets the first answer, even if the order has changed
// since.
func TestAKeyGivesTheFirstAnswerAgain(t *testing.T) {
	s := newShop()
	first, err := s.Place(t.Context(), customer, amount, "k")
	require.NoError(t, err)
	for _, change := range []func(context.Context, order.ID) (order.Snapshot, error){s.Get, s.pay, s.ship} {
		changed, err := change(t.Context(), first.ID)
		require.NoError(t, err)
		again, err := s.Place(t.Context(), customer, amount, "k")
		require.NoError(t, err)
		require.Equal(t, first, again)
		now, err := s.Get(t.Context(), first.ID)
		require.NoError(t, err)
		require.Equal(t, changed, now)
	}
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped}, s.eventTypes())
	require.Equal(t, 6, s.rings.count, "whoever was first may not have rung")

	for _, key := range []orders.Key{"K", "", ""} {
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
	for _, other := range []order.Money{order.NewMoney(10051, "USD"), order.NewMoney(10050, "EUR"), order.NewMoney(order.MaxAmount+1, "USD")} {
		_, err := s.Place(t.Context(), customer, other, "k")
		require.ErrorIs(t, err, orders.ErrKeyReused)
	}
	require.Len(t, s.eventTypes(), 1)

	s.uow.AgeKeys(orders.KeyLifetime)
	second, err := s.Place(t.Context(), customer, order.NewMoney(1, "JPY"), "k")
	require.NoError(t, err)
	require.NotEqual(t, first.ID, second.ID)
	_, err = s.Place(t.Context(), customer, amount, "k")
	require.ErrorIs(t, err, orders.ErrKeyReused)
}

// TestAKeyIsOneCustomers checks that two customers can use the same key, for equal and for different requests.
func TestAKeyIsOneCustomers(t *testing.T) {
	s := newShop()
	first, err := s.Place(t.Context(), customer, amount, "k")
	require.NoError(t, err)
	second, err := s.Place(t.Context(), "550e8400-e29b-41d4-a716-446655440001", amount, "k")
	require.NoError(t, err)
	require.NotEqual(t, first.ID, second.ID)
	for customer, want := range map[order.CustomerID]order.Snapshot{first.CustomerID: first, second.CustomerID: second} {
		again, err := s.Place(t.Context(), customer, amount, "k")
		require.NoError(t, err)
		require.Equal(t, want, again)
	}

	guard := orders.Precondition{Key: "p"}
	_, err = s.Pay(t.Context(), first.ID, "P-1", guard)
	require.NoError(t, err)
	_, err = s.Pay(t.Context(), second.ID, "P-2", guard)
	require.NoError(t, err, "the key is that of the other order's customer")
	_, err = s.Cancel(t.Context(), second.ID, "", guard)
	require.ErrorIs(t, err, orders.ErrKeyReused)
}

// claims is a unit of work that counts calls of Keys.Claim.
type claims struct {
	orders.UnitOfWork
	made int
}

func (c *claims) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	return c.UnitOfWork.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		tx.Keys = countedKeys{tx.Keys, c}
		return fn(ctx, tx)
	})
}

type countedKeys struct {
	orders.Keys
	claims *claims
}

func (k countedKeys) Claim(ctx context.Context, mine orders.KeyClaim) (orders.KeyClaim, error) {
	k.claims.made++
	return k.Keys.Claim(ctx, mine)
}

// TestOnlyAChangeClaimsAKey checks that a request that changes nothing stores no key.
func TestOnlyAChangeClaimsAKey(t *testing.T) {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	counted := &claims{UnitOfWork: uow}
	s := newShopOver(log, uow, counted, codec.New(nil))
	id := s.placed(t).ID
	_, err := s.Pay(t.Context(), id, "P-1", orders.Precondition{Key: "k"})
	require.NoError(t, err)
	require.Equal(t, 1, counted.made)
	for n := range 20 {
		guard := orders.Precondition{Key: orders.Key(fmt.Sprintf("k%d", n))}
		_, err := s.Pay(t.Context(), id, "P-1", guard)
		require.NoError(t, err, "it was made before")
		_, err = s.Pay(t.Context(), id, "P-2", guard)
		require.ErrorIs(t, err, order.ErrDiffers)
		_, err = s.Pay(t.Context(), "00000000-0000-7000-8000-999999999999", "P-1", guard)
		require.ErrorIs(t, err, orders.ErrOrderNotFound)
		_, err = s.Ship(t.Context(), id, "", "", orders.Precondition{Key: guard.Key, AllowedVersions: []int64{1}})
		require.ErrorIs(t, err, orders.ErrOrderVersion)
		_, err = s.Place(t.Context(), customer, order.NewMoney(order.MaxAmount+1, "USD"), guard.Key)
		require.ErrorIs(t, err, order.ErrTooLarge)
	}
	require.Equal(t, 1, counted.made)
}

// TestAKeyOutlivesANewLimit checks that a repeated request gets its first answer, also if the amount of its order is above a newer limit.
func TestAKeyOutlivesANewLimit(t *testing.T) {
	s := newShop()
	tooMuch := order.NewMoney(order.MaxAmount+1, "USD")
	before := order.Rehydrate(order.Snapshot{
		ID: "00000000-0000-7000-8000-000000000099", CustomerID: customer, Amount: tooMuch, Status: order.StatusCreated, CreatedAt: stored,
	})
	require.NoError(t, s.uow.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		_, err := tx.Keys.Claim(ctx, orders.KeyClaim{
			Scope: orders.ScopeOf(customer), Key: "k", Order: before.Snapshot().ID,
			Digest: orders.DigestOf(fmt.Sprintf("place %s %d USD", customer, tooMuch.Minor())),
		})
		require.NoError(t, err)
		return tx.Orders.Save(ctx, before)
	}))
	again, err := s.Place(t.Context(), customer, tooMuch, "k")
	require.NoError(t, err)
	require.Equal(t, before.AsPlaced(), again)
	_, err = s.Place(t.Context(), customer, tooMuch, "another")
	require.ErrorIs(t, err, order.ErrTooLarge)
}

// TestAFailureLeavesTheKeyFree checks that a key of a failed request can be used again, also for another request.
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
	require.Equal(t, []string{orders.TypeCreated}, s.eventTypes())
}

func TestALifeIsOneEventPerVersion(t *testing.T) {
	s := newShop()
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
	require.Equal(t, 3, s.rings.count)

	other := s.placed(t)
	cancelled, err := s.cancel(t.Context(), other.ID)
	require.NoError(t, err)
	require.Equal(t, order.StatusCancelled, cancelled.Status)
	require.NotEqual(t, id, other.ID)
}

func TestARefusedChangeLeavesNothing(t *testing.T) {
	s := newShop()
	id := s.placed(t).ID
	_, err := s.ship(t.Context(), id)
	require.ErrorIs(t, err, order.ErrStatus)
	_, err = s.Place(t.Context(), customer, order.NewMoney(0, "USD"), "")
	require.ErrorIs(t, err, order.ErrMoney)
	for _, verb := range []func(context.Context, order.ID) (order.Snapshot, error){s.pay, s.ship, s.cancel, s.Get} {
		_, err = verb(t.Context(), "00000000-0000-7000-8000-00000000dead")
		require.ErrorIs(t, err, orders.ErrOrderNotFound)
	}
	require.Equal(t, []string{orders.TypeCreated}, s.eventTypes())
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
	_, err = s.pay(t.Context(), id)
	require.Error(t, err)
	read, err := s.Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, order.StatusCreated, read.Status)
	require.Equal(t, []string{orders.TypeCreated}, s.eventTypes())
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
	require.ErrorIs(t, err, orders.ErrOrderNotFound)
	require.Zero(t, s.rings.count)
}

func TestConcurrentPaysAreOneEvent(t *testing.T) {
	s := newShop()
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

// TestAChangeIsMadeOnce checks that a repeated change gets its first answer, whatever happened since, and that a change with other notes
// is refused.
func TestAChangeIsMadeOnce(t *testing.T) {
	s := newShop()
	id := s.placed(t).ID
	paid, err := s.pay(t.Context(), id)
	require.NoError(t, err)
	shipped, err := s.ship(t.Context(), id)
	require.NoError(t, err)
	for range 2 {
		again, err := s.pay(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, paid, again)
		again, err = s.ship(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, shipped, again)
	}
	_, err = s.Pay(t.Context(), id, "P-2", orders.Precondition{})
	require.ErrorIs(t, err, order.ErrDiffers)
	_, err = s.cancel(t.Context(), id)
	require.ErrorIs(t, err, order.ErrStatus)
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped}, s.eventTypes())
	require.Equal(t, 7, s.rings.count, "whoever made it may not have rung")
}

func TestAKeyIsForOneChange(t *testing.T) {
	s := newShop()
	first, second := s.placed(t).ID, s.placed(t).ID
	guard := orders.Precondition{Key: "k"}
	paid, err := s.Pay(t.Context(), first, "P-1", guard)
	require.NoError(t, err)
	_, err = s.ship(t.Context(), first)
	require.NoError(t, err)
	again, err := s.Pay(t.Context(), first, "P-1", guard)
	require.NoError(t, err)
	require.Equal(t, paid, again)
	for name, other := range map[string]func() error{
		"another reference": func() error { _, err := s.Pay(t.Context(), first, "P-2", guard); return err },
		"another order":     func() error { _, err := s.Pay(t.Context(), second, "P-1", guard); return err },
		"another change":    func() error { _, err := s.Cancel(t.Context(), second, "P-1", guard); return err },
		"a new order":       func() error { _, err := s.Place(t.Context(), customer, amount, "k"); return err },
	} {
		require.ErrorIs(t, other(), orders.ErrKeyReused, name)
	}
	_, err = s.Ship(t.Context(), second, "", "", orders.Precondition{Key: "s"})
	require.ErrorIs(t, err, order.ErrStatus)
	_, err = s.Pay(t.Context(), second, "", orders.Precondition{Key: "s"})
	require.NoError(t, err, "what was refused leaves its key free")
	_, err = s.Ship(t.Context(), second, "a b", "c", orders.Precondition{Key: "t"})
	require.NoError(t, err)
	_, err = s.Ship(t.Context(), second, "a", "b c", orders.Precondition{Key: "t"})
	require.ErrorIs(t, err, orders.ErrKeyReused, "the words are not run together")
}

// TestAChangeIsMeantForAVersion checks that a change needs an allowed version, and that a retry may carry the version of the first request.
func TestAChangeIsMeantForAVersion(t *testing.T) {
	s := newShop()
	id := s.placed(t).ID
	pay := func(versions ...int64) error {
		_, err := s.Pay(t.Context(), id, "P-1", orders.Precondition{AllowedVersions: versions})
		return err
	}
	require.ErrorIs(t, pay(2), orders.ErrOrderVersion)
	require.NoError(t, pay(1))
	require.NoError(t, pay(1), "sent again")
	require.NoError(t, pay(), "at any version")
	require.NoError(t, pay(7, 2))
	require.ErrorIs(t, pay(3), orders.ErrOrderVersion)
	_, err := s.Ship(t.Context(), id, "", "", orders.Precondition{AllowedVersions: []int64{}})
	require.ErrorIs(t, err, orders.ErrOrderVersion, "an empty list means none")
	_, err = s.Ship(t.Context(), id, "", "", orders.Precondition{AllowedVersions: []int64{1}})
	require.ErrorIs(t, err, orders.ErrOrderVersion)
	require.ErrorContains(t, err, "at version 2")
	_, err = s.Ship(t.Context(), id, "", "", orders.Precondition{AllowedVersions: []int64{2}})
	require.NoError(t, err)
	require.NoError(t, pay(1), "sent again, though it was shipped")
	require.NoError(t, pay(3))
	require.ErrorIs(t, pay(2), orders.ErrOrderVersion, "neither what it was made from, nor what is")
	_, err = s.Cancel(t.Context(), id, "", orders.Precondition{AllowedVersions: []int64{1}})
	require.ErrorIs(t, err, orders.ErrOrderVersion, "first of all it is stale")
	_, err = s.Cancel(t.Context(), id, "", orders.Precondition{AllowedVersions: []int64{3}})
	require.ErrorIs(t, err, order.ErrStatus)
	_, err = s.Pay(t.Context(), id, "P-2", orders.Precondition{AllowedVersions: []int64{3}})
	require.ErrorIs(t, err, order.ErrDiffers)
}

func TestListTellsWhetherThereIsMore(t *testing.T) {
	s := newShop()
	for range 3 {
		s.placed(t)
	}
	for limit, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3} {
		page, err := s.List(t.Context(), orders.Filter{Limit: limit})
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
	_, err := s.List(ctx, orders.Filter{Limit: 1})
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
	s := newShopOver(log, uow, race, codec.New(nil))
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
