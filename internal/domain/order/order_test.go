package order_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
)

const (
	orderID  order.ID         = "018f5e4c-0000-7000-8000-000000000001"
	customer order.CustomerID = "550e8400-e29b-41d4-a716-446655440000"
)

var (
	placedAt  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	changedAt = placedAt.Add(time.Hour)
	amount    = order.NewMoney(10050, "USD")
)

func TestPlace(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	want := order.Snapshot{
		ID: orderID, CustomerID: customer, Amount: amount, Status: order.StatusCreated, Version: 1, CreatedAt: placedAt,
	}
	require.Equal(t, want, o.Snapshot())
	require.Zero(t, o.StoredVersion())
	require.Equal(t, []order.Event{order.Created{Fact: order.Fact{Order: want, At: placedAt}}}, o.PullEvents())
}

func TestPlacedIsWhatPlaceMade(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	first := o.Snapshot()
	for _, verb := range []func(*order.Order, time.Time) error{(*order.Order).Pay, (*order.Order).Ship} {
		require.NoError(t, verb(o, changedAt))
		require.NotEqual(t, first, o.Snapshot())
		require.Equal(t, first, o.Placed())
		require.Equal(t, first, order.Rehydrate(o.Snapshot()).Placed())
	}
}

func TestPlaceRefusesWhatIsNotPositive(t *testing.T) {
	for _, minor := range []int64{0, -1} {
		o, err := order.Place(orderID, customer, order.NewMoney(minor, "USD"), placedAt)
		require.Nil(t, o)
		require.ErrorIs(t, err, order.ErrMoney)
		require.Equal(t, "amount", fieldsOf(t, err)[0].Name)
	}
}

// Every verb from every status: an empty target means that it is refused.
func TestStatusMachine(t *testing.T) {
	verbs := map[string]func(*order.Order, time.Time) error{
		"pay": (*order.Order).Pay, "ship": (*order.Order).Ship, "cancel": (*order.Order).Cancel,
	}
	wouldWork := map[string]string{"pay": "must be created", "ship": "must be paid", "cancel": "must be created or paid"}
	for from, targets := range map[order.Status]map[string]order.Status{
		order.StatusCreated:   {"pay": order.StatusPaid, "ship": "", "cancel": order.StatusCancelled},
		order.StatusPaid:      {"pay": "", "ship": order.StatusShipped, "cancel": order.StatusCancelled},
		order.StatusShipped:   {"pay": "", "ship": "", "cancel": ""},
		order.StatusCancelled: {"pay": "", "ship": "", "cancel": ""},
	} {
		for verb, target := range targets {
			t.Run(verb+" from "+string(from), func(t *testing.T) {
				before := order.Snapshot{
					ID: orderID, CustomerID: customer, Amount: amount, Status: from, Version: 7, CreatedAt: placedAt,
				}
				o := order.Rehydrate(before)
				err := verbs[verb](o, changedAt)
				require.EqualValues(t, 7, o.StoredVersion(), "what was read stays what was read")
				if target == "" {
					require.ErrorIs(t, err, order.ErrStatus)
					require.Equal(t, fault.Conflict, fault.KindOf(err))
					require.ErrorContains(t, err, string(from))
					require.ErrorContains(t, err, wouldWork[verb])
					require.Equal(t, before, o.Snapshot())
					require.False(t, o.HasEvents())
					return
				}
				require.NoError(t, err)
				after := before
				after.Status, after.Version = target, 8
				require.Equal(t, after, o.Snapshot())
				require.Equal(t, []order.Event{eventOf(target, order.Fact{Order: after, At: changedAt})}, o.PullEvents())
			})
		}
	}
}

func eventOf(status order.Status, fact order.Fact) order.Event {
	switch status {
	case order.StatusPaid:
		return order.Paid{Fact: fact}
	case order.StatusShipped:
		return order.Shipped{Fact: fact}
	case order.StatusCancelled:
		return order.Cancelled{Fact: fact}
	case order.StatusCreated:
	}
	return order.Created{Fact: fact}
}

func TestVersionRisesByOnePerEvent(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	require.NoError(t, o.Pay(changedAt))
	require.Error(t, o.Pay(changedAt), "a refused verb is no event")
	require.NoError(t, o.Ship(changedAt))

	require.True(t, o.HasEvents())
	events := o.PullEvents()
	require.Len(t, events, 3)
	for i, event := range events {
		fact := order.FactOf(event)
		require.EqualValues(t, i+1, fact.Order.Version)
		require.Equal(t, placedAt, fact.Order.CreatedAt)
	}
	require.EqualValues(t, 3, o.Snapshot().Version)
}

func TestEventsArePulledOnce(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	require.True(t, o.HasEvents())
	require.Len(t, o.PullEvents(), 1)
	require.False(t, o.HasEvents())
	require.Empty(t, o.PullEvents())
	require.NoError(t, o.Cancel(changedAt))
	require.Len(t, o.PullEvents(), 1, "only what happened since")
}

func TestEventsKeepWhatWasTrueThen(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	created := o.PullEvents()[0]
	require.NoError(t, o.Pay(changedAt))
	require.Equal(t, order.StatusCreated, order.FactOf(created).Order.Status)
}

// What was stored once is not judged again: rules may have become stricter since.
func TestRehydrateDoesNotJudge(t *testing.T) {
	stored := order.Snapshot{ID: "old", CustomerID: "style", Amount: order.NewMoney(0, "DEM"), Status: "lost", Version: 3}
	o := order.Rehydrate(stored)
	require.Equal(t, stored, o.Snapshot())
	require.EqualValues(t, 3, o.StoredVersion())
	require.False(t, o.HasEvents())
}

func TestIDs(t *testing.T) {
	const canonical = "550e8400-e29b-41d4-a716-446655440000"
	for text, valid := range map[string]bool{
		canonical:                                true,
		"550E8400-E29B-41D4-A716-446655440000":   true,
		"00000000-0000-0000-0000-000000000000":   true,
		"":                                       false,
		"550e8400e29b41d4a716446655440000":       false,
		"{550e8400-e29b-41d4-a716-446655440000}": false,
		"urn:uuid:" + canonical:                  false,
		canonical + " ":                          false,
		canonical[:35]:                           false,
		canonical[:35] + "g":                     false,
		"550e8400-e29b-41d4-a7164-46655440000":   false,
		"550e8400-e29b-41d4-a716-44665544000K":   false, // the Kelvin sign's lower case is a k
		"550e8400-e29b-41d4-a716-4466554400é":    false,
	} {
		id, err := order.ParseID(text)
		customer, customerErr := order.ParseCustomerID(text)
		if valid {
			require.NoError(t, err, text)
			require.NoError(t, customerErr, text)
			require.Len(t, string(id), 36)
			require.Equal(t, string(id), string(customer))
			continue
		}
		require.ErrorIs(t, err, order.ErrID, "%q", text)
		require.Equal(t, "id", fieldsOf(t, err)[0].Name)
		require.ErrorIs(t, customerErr, order.ErrID, "%q", text)
		require.Equal(t, "customer_id", fieldsOf(t, customerErr)[0].Name)
	}
	id, err := order.ParseID("550E8400-E29B-41D4-A716-446655440000")
	require.NoError(t, err)
	require.Equal(t, order.ID(canonical), id, "one spelling per id")
}

func fieldsOf(t *testing.T, err error) []fault.Field {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, fault.Invalid, f.Kind)
	require.NotEmpty(t, f.Fields)
	return f.Fields
}
