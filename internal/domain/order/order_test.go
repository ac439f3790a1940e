package order_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

const (
	orderID  order.ID         = "018f5e4c-0000-7000-8000-000000000001"
	customer value.CustomerID = "550e8400-e29b-41d4-a716-446655440000"
)

var (
	placedAt  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	changedAt = placedAt.Add(time.Hour)
	amount    = value.NewMoney(10050, "USD")
)

func TestPlace(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	want := order.Snapshot{
		ID: orderID, CustomerID: customer, Amount: amount, Status: order.StatusCreated, Version: 1, CreatedAt: placedAt,
	}
	require.Equal(t, want, o.Snapshot())
	require.Zero(t, o.StoredVersion())
	require.Equal(t, []order.Event{order.Created{EventData: order.EventData{Order: want, At: placedAt}}}, o.PullEvents())
}

func TestPlacedIsWhatPlaceMade(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	first := o.Snapshot()
	for _, verb := range []string{"pay", "ship"} {
		_, err := do(o, verb)
		require.NoError(t, err)
		require.NotEqual(t, first, o.Snapshot())
		require.Equal(t, first, o.AsPlaced())
		require.Equal(t, first, order.Rehydrate(o.Snapshot()).AsPlaced())
	}
}

func TestPlaceRefusesWhatIsNotPositive(t *testing.T) {
	for _, minor := range []int64{0, -1} {
		o, err := order.Place(orderID, customer, value.NewMoney(minor, "USD"), placedAt)
		require.Nil(t, o)
		require.ErrorIs(t, err, value.ErrMoney)
		require.Equal(t, "amount", fieldsOf(t, err)[0].Name)
	}
}

// TestPlaceRefusesWhatIsTooLarge checks that Place refuses an amount above value.MaxAmount. An order with a larger amount that was stored before
// this limit existed can still be changed.
func TestPlaceRefusesWhatIsTooLarge(t *testing.T) {
	largest := value.NewMoney(value.MaxAmount, "USD")
	o, err := order.Place(orderID, customer, largest, placedAt)
	require.NoError(t, err)
	require.Equal(t, largest, o.Snapshot().Amount)

	for currency, shown := range map[value.Currency]string{"USD": "10000000000.00 USD", "JPY": "1000000000000 JPY", "KWD": "1000000000.000 KWD"} {
		o, err := order.Place(orderID, customer, value.NewMoney(value.MaxAmount+1, currency), placedAt)
		require.Nil(t, o)
		require.ErrorIs(t, err, value.ErrTooLarge)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.Equal(t, []fault.Field{{Name: "amount", Reason: "is too large: the largest is " + shown}}, fieldsOf(t, err))
	}

	stored := o.Snapshot()
	stored.Amount = value.NewMoney(math.MaxInt64, "USD")
	old := order.Rehydrate(stored)
	for _, verb := range []string{"pay", "ship"} {
		changed, err := do(old, verb)
		require.NoError(t, err)
		require.Equal(t, stored.Amount, changed.Amount)
	}
	require.Equal(t, stored.Amount, old.AsPlaced().Amount)
}

// TestManyOfTheLargestOrdersCanBeAddedUp checks that the sum of nine million largest orders fits into 64 bits.
func TestManyOfTheLargestOrdersCanBeAddedUp(t *testing.T) {
	require.Greater(t, math.MaxInt64/value.MaxAmount, int64(9_000_000))
}

// do makes the change that verb names, with notes.
func do(o *order.Order, verb string) (order.Snapshot, error) {
	switch verb {
	case "pay":
		return o.Pay("P-1", changedAt)
	case "ship":
		return o.Ship("UPS", "1Z", changedAt)
	}
	return o.Cancel("too late", changedAt)
}

// lives has, for each status, every sequence of changes that leads to it.
var lives = map[order.Status][][]string{
	order.StatusCreated:   {{}},
	order.StatusPaid:      {{"pay"}},
	order.StatusShipped:   {{"pay", "ship"}},
	order.StatusCancelled: {{"cancel"}, {"pay", "cancel"}},
}

// after returns an order to which the changes verbs were made, as read from the store.
func after(t *testing.T, verbs ...string) *order.Order {
	t.Helper()
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	for _, verb := range verbs {
		_, err := do(o, verb)
		require.NoError(t, err)
	}
	return order.Rehydrate(o.Snapshot())
}

// TestStatusMachine checks each change in each status. The order makes the change, refuses it, or repeats the first answer if the change
// was made before.
func TestStatusMachine(t *testing.T) {
	wouldWork := map[string]string{"pay": "must be created", "ship": "must be paid", "cancel": "must be created or paid"}
	leadsTo := map[string]order.Status{"pay": order.StatusPaid, "ship": order.StatusShipped, "cancel": order.StatusCancelled}
	allowed := map[string][]order.Status{
		"pay": {order.StatusCreated}, "ship": {order.StatusPaid}, "cancel": {order.StatusCreated, order.StatusPaid},
	}
	for from, ways := range lives {
		for _, life := range ways {
			for verb, target := range leadsTo {
				t.Run(fmt.Sprintf("%s after %v", verb, life), func(t *testing.T) {
					o := after(t, life...)
					before := o.Snapshot()
					require.Equal(t, from, before.Status)
					got, err := do(o, verb)
					require.Equal(t, before.Version, o.StoredVersion(), "what was read stays what was read")
					switch at := slices.Index(life, verb); {
					case at >= 0:
						require.NoError(t, err)
						require.Equal(t, after(t, life[:at+1]...).Snapshot(), got, "as the first time")
					case slices.Contains(allowed[verb], from):
						require.NoError(t, err)
						require.Equal(t, o.Snapshot(), got)
						require.Equal(t, []any{target, before.Version + 1}, []any{got.Status, got.Version})
						require.Equal(t, []order.Event{eventOf(target, order.EventData{Order: got, At: changedAt})}, o.PullEvents())
						return
					default:
						require.ErrorIs(t, err, order.ErrStatus)
						require.Equal(t, fault.Conflict, fault.KindOf(err))
						require.ErrorContains(t, err, "order that is "+string(from)+"; it "+wouldWork[verb])
						require.Zero(t, got)
					}
					require.Equal(t, before, o.Snapshot())
					require.False(t, o.HasEvents())
				})
			}
		}
	}
}

func TestVerbsKeepWhatTheyAreTold(t *testing.T) {
	o := after(t, "pay", "ship")
	want := order.Snapshot{
		ID: orderID, CustomerID: customer, Amount: amount, Status: order.StatusShipped, Version: 3, CreatedAt: placedAt,
		PaymentReference: "P-1", Carrier: "UPS", Tracking: "1Z",
	}
	require.Equal(t, want, o.Snapshot())
	require.Equal(t, value.Note("too late"), after(t, "cancel").Snapshot().CancelReason)
	cancelled := after(t, "pay", "cancel").Snapshot()
	require.Equal(t, value.Note("P-1"), cancelled.PaymentReference)
}

// TestARepeatedChangeMustBeTheSame checks that a repeated change with other notes, or without notes, is refused.
func TestARepeatedChangeMustBeTheSame(t *testing.T) {
	shipped, cancelled := after(t, "pay", "ship"), after(t, "cancel")
	for name, repeat := range map[string]func() (order.Snapshot, error){
		"reference":    func() (order.Snapshot, error) { return shipped.Pay("P-2", changedAt) },
		"no reference": func() (order.Snapshot, error) { return shipped.Pay("", changedAt) },
		"carrier":      func() (order.Snapshot, error) { return shipped.Ship("DHL", "1Z", changedAt) },
		"tracking":     func() (order.Snapshot, error) { return shipped.Ship("UPS", "", changedAt) },
		"reason":       func() (order.Snapshot, error) { return cancelled.Cancel("", changedAt) },
	} {
		got, err := repeat()
		require.ErrorIs(t, err, order.ErrDiffers, name)
		require.Equal(t, fault.Conflict, fault.KindOf(err))
		require.Zero(t, got)
	}
	require.False(t, shipped.HasEvents() || cancelled.HasEvents())
}

func eventOf(status order.Status, fact order.EventData) order.Event {
	switch status {
	case order.StatusPaid:
		return order.Paid{EventData: fact}
	case order.StatusShipped:
		return order.Shipped{EventData: fact}
	case order.StatusCancelled:
		return order.Cancelled{EventData: fact}
	case order.StatusCreated:
	}
	return order.Created{EventData: fact}
}

func TestVersionRisesByOnePerEvent(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	for _, verb := range []string{"pay", "pay", "ship"} { // the second pay changes nothing
		_, err := do(o, verb)
		require.NoError(t, err)
	}

	require.True(t, o.HasEvents())
	events := o.PullEvents()
	require.Len(t, events, 3)
	for i, event := range events {
		fact := order.DataOf(event)
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
	_, err = do(o, "cancel")
	require.NoError(t, err)
	require.Len(t, o.PullEvents(), 1, "only what happened since")
}

func TestEventsKeepWhatWasTrueThen(t *testing.T) {
	o, err := order.Place(orderID, customer, amount, placedAt)
	require.NoError(t, err)
	created := o.PullEvents()[0]
	_, err = do(o, "pay")
	require.NoError(t, err)
	require.Equal(t, order.StatusCreated, order.DataOf(created).Order.Status)
}

// TestRehydrateDoesNotJudge checks that Rehydrate accepts each stored state. The rules may have become stricter after it was stored.
func TestRehydrateDoesNotJudge(t *testing.T) {
	stored := order.Snapshot{ID: "old", CustomerID: "style", Amount: value.NewMoney(0, "DEM"), Status: "lost", Version: 3}
	o := order.Rehydrate(stored)
	require.Equal(t, stored, o.Snapshot())
	require.EqualValues(t, 3, o.StoredVersion())
	require.False(t, o.HasEvents())
}

// TestIDs checks that an id has one spelling, and that a refused id is named.
func TestIDs(t *testing.T) {
	id, err := order.ParseID("550E8400-E29B-41D4-A716-446655440000")
	require.NoError(t, err)
	require.Equal(t, order.ID("550e8400-e29b-41d4-a716-446655440000"), id)
	_, err = order.ParseID("550e8400")
	require.ErrorIs(t, err, value.ErrID)
	require.Equal(t, "id", fieldsOf(t, err)[0].Name)
}

func fieldsOf(t *testing.T, err error) []fault.Field {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, fault.Invalid, f.Kind)
	require.NotEmpty(t, f.Fields)
	return f.Fields
}
