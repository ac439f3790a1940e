package orderstest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// PersonalDataStore is an empty database of the order service and of subscribers.
type PersonalDataStore struct {
	Harness
	KeyRing orders.KeyRing
	Data    orders.PersonalData
	TotalsStore
}

// TestPersonalData checks orders.PersonalData, orders.CustomerKeys and orders.KeyRing. Each call of open returns an empty store.
func TestPersonalData(t *testing.T, open func(t *testing.T) PersonalDataStore) {
	check := contracttest.Runner(t, open)
	check("a customer has one key, which is found by its id", holdKey)
	check("many hold a key at the same time", holdTogether)
	check("to inspect changes nothing", inspectChangesNothing)
	check("erasing removes what a customer left", eraseEverything)
	check("erasing leaves other customers alone", eraseOthersNot)
	check("a second erasure finds nothing", eraseTwice)
	check("an erased key is known as erased", erasedKey)
	check("erasing waits for those who hold the key", eraseWaits)
	check("an order that was erased meanwhile cannot be saved", eraseBeforeSave)
	check("a subscriber that is behind is named", eraseBehind)
}

func newCustomer() value.CustomerID { return value.CustomerID(newUUID()) }

// holdKeyOf returns the customer's key.
func holdKeyOf(t *testing.T, s PersonalDataStore, customer value.CustomerID) (key outbox.SealKey) {
	t.Helper()
	do(t, s, func(ctx context.Context, tx orders.Tx) (err error) {
		key, err = tx.CustomerKeys.Hold(ctx, customer)
		return err
	})
	return key
}

// messageOf returns the message of an order's present version, which names the customer and the notes. It is sealed unless key is nil.
func messageOf(o order.Snapshot, key *outbox.SealKey) (outbox.Message, error) {
	message := outbox.Message{
		ID: newUUID(), Type: orders.TypeCreated, Subject: "test.happened", Key: outbox.Key{Type: orders.AggregateType, ID: string(o.ID)},
		Version: o.Version, Headers: map[string]string{"traceparent": "00-1"},
		Payload: []byte(fmt.Sprintf(`{"customer_id":%q,"reference":%q}`, o.CustomerID, o.PaymentReference)),
	}
	if key == nil {
		return message, nil
	}
	return message.Seal(*key)
}

// placePaid commits a paid order with a note, its two events, and the key of the request that paid it.
func placePaid(t *testing.T, s PersonalDataStore, customer value.CustomerID, sealed bool) order.Snapshot {
	t.Helper()
	o, err := order.Place(order.ID(newUUID()), customer, value.NewMoney(10050, "USD"), time.Now().UTC().Truncate(time.Microsecond))
	require.NoError(t, err)
	do(t, s, func(ctx context.Context, tx orders.Tx) error { return savePersonal(ctx, tx, o, sealed) })
	do(t, s, func(ctx context.Context, tx orders.Tx) error {
		claim := orders.KeyClaim{Scope: orders.Scope(customer), Key: orders.Key("pay " + o.Snapshot().ID), Digest: orders.DigestOf("pay"), Order: o.Snapshot().ID}
		if _, err := tx.Keys.Claim(ctx, claim); err != nil {
			return err
		}
		if o, err = tx.Orders.Get(ctx, o.Snapshot().ID); err != nil {
			return err
		}
		if _, err := o.Pay("card of "+value.Note(customer), time.Now()); err != nil {
			return err
		}
		return savePersonal(ctx, tx, o, sealed)
	})
	return o.Snapshot()
}

func savePersonal(ctx context.Context, tx orders.Tx, o *order.Order, sealed bool) error {
	o.PullEvents()
	var key *outbox.SealKey
	if sealed {
		held, err := tx.CustomerKeys.Hold(ctx, o.Snapshot().CustomerID)
		if err != nil {
			return err
		}
		key = &held
	}
	message, err := messageOf(o.Snapshot(), key)
	if err != nil {
		return err
	}
	if err := tx.Orders.Save(ctx, o); err != nil {
		return err
	}
	return tx.Outbox.Append(ctx, message)
}

// reader is the handler of a subscriber. It adds each event to the totals of a customer, or fails.
type reader struct {
	store    PersonalDataStore
	customer value.CustomerID
	failing  error
}

func (*reader) Name() string                          { return "reader" }
func (*reader) Types() []string                       { return []string{orders.TypeCreated} }
func (*reader) External() bool                        { return false }
func (*reader) Applied(context.Context, outbox.Entry) {}

func (r *reader) Handle(ctx context.Context, tx inbox.Tx, _ outbox.Entry) error {
	if r.failing != nil {
		return r.failing
	}
	return r.store.Totals.Add(ctx, tx, r.customer, value.NewMoney(10050, "USD"))
}

// subscribe begins the subscriber, or lets it go on, and applies events.
func subscribe(t *testing.T, s PersonalDataStore, r *reader, entries ...outbox.Entry) {
	t.Helper()
	points := s.Inbox.Checkpoints
	require.NoError(t, points.Subscribe(t.Context(), counting, "reader", r.Types()))
	require.NoError(t, points.CreateLanes(t.Context(), counting, 1, "stream", inbox.StreamPosition{}))
	view, err := points.Heartbeat(t.Context(), counting, "copy")
	require.NoError(t, err)
	batch := inbox.Batch{From: view.Lanes[0], To: view.Lanes[0].StreamPosition}
	for _, entry := range entries {
		batch.To = inbox.StreamPosition{Sequence: batch.To.Sequence + 1, StoredAt: time.Unix(1, 0), Progress: entry.Position}
		batch.Events = append(batch.Events, inbox.Event{Entry: entry, Sequence: batch.To.Sequence, Suspect: r.failing != nil})
	}
	_, err = s.Inbox.UnitOfWork.Apply(t.Context(), counting, batch, r, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		return inbox.Failure{Cause: err, Permanent: true, Limit: 1}, nil
	})
	require.NoError(t, err)
}

func letterOf(t *testing.T, s PersonalDataStore, entry outbox.Entry) inbox.Letter {
	t.Helper()
	letter, err := s.Inbox.Letters.Letter(t.Context(), counting, entry.ID)
	require.NoError(t, err)
	return letter
}

func inspect(t *testing.T, s PersonalDataStore, customer value.CustomerID) orders.CustomerData {
	t.Helper()
	found, err := s.Data.Inspect(t.Context(), customer)
	require.NoError(t, err)
	return found
}

func erase(t *testing.T, s PersonalDataStore, customer, pseudonym value.CustomerID) orders.CustomerData {
	t.Helper()
	found, err := s.Data.Erase(t.Context(), customer, pseudonym)
	require.NoError(t, err)
	return found
}

func holdKey(t *testing.T, s PersonalDataStore) {
	one, other := newCustomer(), newCustomer()
	key := holdKeyOf(t, s, one)
	require.Equal(t, key, holdKeyOf(t, s, one))
	another := holdKeyOf(t, s, other)
	require.NotEqual(t, key.Secret, another.Secret)
	found, err := s.KeyRing.Find(t.Context(), []string{another.ID, newUUID(), "no uuid", key.ID})
	require.NoError(t, err)
	require.ElementsMatch(t, []orders.FoundKey{{SealKey: key}, {SealKey: another}}, found)
	found, err = s.KeyRing.Find(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, found)
}

func holdTogether(t *testing.T, s PersonalDataStore) {
	customer := newCustomer()
	key := holdKeyOf(t, s, customer)
	do(t, s, func(ctx context.Context, tx orders.Tx) error {
		if _, err := tx.CustomerKeys.Hold(ctx, customer); err != nil {
			return err
		}
		require.Equal(t, key, holdKeyOf(t, s, customer))
		return nil
	})
	// The first transactions of a customer make one key.
	fresh, keys := newCustomer(), make(chan outbox.SealKey, 8)
	for range cap(keys) {
		go func() {
			_ = s.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
				held, err := tx.CustomerKeys.Hold(ctx, fresh)
				keys <- held
				return err
			})
		}()
	}
	first := <-keys
	for range cap(keys) - 1 {
		require.Equal(t, first, <-keys)
	}
}

func inspectChangesNothing(t *testing.T, s PersonalDataStore) {
	customer := newCustomer()
	require.Zero(t, inspect(t, s, customer))
	placed := placePaid(t, s, customer, true)
	want := orders.CustomerData{Key: true, Orders: 1, Requests: 1, SealedEvents: 2}
	require.Equal(t, want, inspect(t, s, customer))
	require.Equal(t, want, inspect(t, s, customer))
	require.True(t, want.Erasable())
	state, _ := s.Order(t, placed.ID)
	require.Equal(t, placed, state)
}

func eraseEverything(t *testing.T, s PersonalDataStore) {
	customer, pseudonym := newCustomer(), newCustomer()
	plain, sealed := placePaid(t, s, customer, false), placePaid(t, s, customer, true)
	entries := s.Entries(t)
	r := &reader{store: s, customer: customer}
	subscribe(t, s, r, entries[0], entries[2])
	r.failing = errors.New("cannot handle the card of " + string(customer))
	subscribe(t, s, r, entries[1], entries[3])
	require.Contains(t, letterOf(t, s, entries[1]).Error, string(customer))

	require.Equal(t, orders.CustomerData{
		Key: true, Orders: 2, Requests: 2, Totals: 1, Letters: 1, SealedLetters: 1, PlainEvents: 2, SealedEvents: 2,
	}, erase(t, s, customer, pseudonym))
	for _, before := range []order.Snapshot{plain, sealed} {
		before.CustomerID, before.PaymentReference = pseudonym, ""
		state, _ := s.Order(t, before.ID)
		require.Equal(t, before, state, "the version does not change")
	}
	require.Equal(t, entries, s.Entries(t), "the log never changes")
	require.Equal(t, Total{"20100", 2}, s.Total(t, counting, pseudonym, "USD"))
	require.Zero(t, s.Total(t, counting, customer, "USD"))

	discarded, kept := letterOf(t, s, entries[1]), letterOf(t, s, entries[3])
	require.Equal(t, []inbox.LetterState{inbox.Discarded, inbox.Dead}, []inbox.LetterState{discarded.State, kept.State})
	require.JSONEq(t, `{"erased": true}`, string(discarded.Payload))
	require.Equal(t, entries[3].Payload, kept.Payload)
	for _, letter := range []inbox.Letter{discarded, kept} {
		require.Equal(t, "the customer was erased", letter.Error)
	}
	do(t, s, holding(orders.Scope(customer), orders.Key("pay "+plain.ID), nil))
}

func eraseOthersNot(t *testing.T, s PersonalDataStore) {
	customer, other := newCustomer(), newCustomer()
	placePaid(t, s, customer, true)
	placed := placePaid(t, s, other, true)
	entries := s.Entries(t)
	r := &reader{store: s, customer: other}
	subscribe(t, s, r, entries[2])
	r.failing = errors.New("cannot handle it")
	mentioning, err := messageOf(order.Snapshot{ID: placed.ID, Version: 9, CustomerID: other, PaymentReference: value.Note(customer)}, nil)
	require.NoError(t, err)
	mentions := outbox.Entry{Message: mentioning, Position: 99, RecordedAt: time.Now()}
	subscribe(t, s, r, entries[3], mentions)
	key := holdKeyOf(t, s, other)
	before := inspect(t, s, other)
	erase(t, s, customer, newCustomer())
	require.Equal(t, before, inspect(t, s, other))
	state, _ := s.Order(t, placed.ID)
	require.Equal(t, placed, state)
	require.Equal(t, key, holdKeyOf(t, s, other))
	require.Equal(t, Total{"10050", 1}, s.Total(t, counting, other, "USD"))
	require.Equal(t, "cannot handle it", letterOf(t, s, entries[3]).Error)
	require.Equal(t, mentioning.Payload, letterOf(t, s, mentions).Payload, "a note may mention anybody")
}

func eraseTwice(t *testing.T, s PersonalDataStore) {
	customer, pseudonym := newCustomer(), newCustomer()
	placed := placePaid(t, s, customer, true)
	erase(t, s, customer, pseudonym)
	require.False(t, inspect(t, s, customer).Erasable())
	require.Zero(t, erase(t, s, customer, newCustomer()))
	state, _ := s.Order(t, placed.ID)
	require.Equal(t, pseudonym, state.CustomerID, "a second erasure does not change the pseudonym")
	// The customer may come again, as if for the first time.
	again := placePaid(t, s, customer, true)
	require.Equal(t, orders.CustomerData{Key: true, Orders: 1, Requests: 1, SealedEvents: 2}, inspect(t, s, customer))
	require.NotEqual(t, placed.ID, again.ID)
}

func erasedKey(t *testing.T, s PersonalDataStore) {
	customer := newCustomer()
	key := holdKeyOf(t, s, customer)
	erase(t, s, customer, newCustomer())
	found, err := s.KeyRing.Find(t.Context(), []string{key.ID})
	require.NoError(t, err)
	require.Equal(t, []orders.FoundKey{{SealKey: outbox.SealKey{ID: key.ID}, Erased: true}}, found)
	next := holdKeyOf(t, s, customer)
	require.NotEqual(t, key.ID, next.ID)
	require.NotEqual(t, key.Secret, next.Secret)
}

func eraseWaits(t *testing.T, s PersonalDataStore) {
	for _, had := range []bool{true, false} { // the customer has a key, or the transaction makes it
		customer, pseudonym := newCustomer(), newCustomer()
		if had {
			holdKeyOf(t, s, customer)
		}
		o, err := order.Place(order.ID(newUUID()), customer, value.NewMoney(10050, "USD"), time.Now().UTC().Truncate(time.Microsecond))
		require.NoError(t, err)
		erased := make(chan error, 1)
		do(t, s, func(ctx context.Context, tx orders.Tx) error {
			if err := savePersonal(ctx, tx, o, true); err != nil {
				return err
			}
			go func() {
				_, err := s.Data.Erase(t.Context(), customer, pseudonym)
				erased <- err
			}()
			select {
			case err := <-erased:
				return fmt.Errorf("erasing does not wait: %w", errors.Join(err, errors.New("it has ended")))
			case <-time.After(soon):
				return nil
			}
		})
		require.NoError(t, <-erased)
		state, _ := s.Order(t, o.Snapshot().ID)
		require.Equal(t, pseudonym, state.CustomerID, "erasing finds what it waited for")
		found, err := s.KeyRing.Find(t.Context(), []string{s.Entries(t)[len(s.Entries(t))-1].SealedWith()})
		require.NoError(t, err)
		require.True(t, found[0].Erased)
	}
}

func eraseBeforeSave(t *testing.T, s PersonalDataStore) {
	customer := newCustomer()
	o, err := order.Place(order.ID(newUUID()), customer, value.NewMoney(10050, "USD"), time.Now().UTC().Truncate(time.Microsecond))
	require.NoError(t, err)
	do(t, s, func(ctx context.Context, tx orders.Tx) error { return savePersonal(ctx, tx, o, false) })
	err = s.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		read, err := tx.Orders.Get(ctx, o.Snapshot().ID)
		if err != nil {
			return err
		}
		erase(t, s, customer, newCustomer())
		if _, err := read.Pay("P-1", time.Now()); err != nil {
			return err
		}
		return savePersonal(ctx, tx, read, true)
	})
	require.ErrorIs(t, err, orders.ErrOrderChanged)
	require.False(t, inspect(t, s, customer).Orders > 0)
	require.Len(t, s.Entries(t), 1, "the event that names the customer was not appended")
}

func eraseBehind(t *testing.T, s PersonalDataStore) {
	customer := newCustomer()
	placePaid(t, s, customer, false)
	entries := s.Entries(t)
	r := &reader{store: s, customer: customer}
	subscribe(t, s, r, entries[0])
	require.Equal(t, []orders.Behind{{Subscriber: counting, Events: 1}}, inspect(t, s, customer).Behind)
	require.Len(t, erase(t, s, customer, newCustomer()).Behind, 1)
	again := inspect(t, s, customer)
	require.Len(t, again.Behind, 1, "a plain event is found by its payload after the order has the pseudonym")
	require.False(t, again.Erasable())
	subscribe(t, s, r, entries[1])
	found := inspect(t, s, customer)
	require.Empty(t, found.Behind)
	require.Equal(t, 1, found.Totals, "the event brought the customer's id back")
	pseudonym := newCustomer()
	erase(t, s, customer, pseudonym)
	require.Equal(t, Total{"10050", 1}, s.Total(t, counting, pseudonym, "USD"))
	require.False(t, inspect(t, s, customer).Erasable())
}
