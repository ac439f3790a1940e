package orderstest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

var morning = time.Date(2024, 2, 29, 8, 0, 0, 0, time.UTC)

// placedAt commits an order of a customer, changes the order with verbs, and returns it.
func placedAt(
	t *testing.T, h Harness, customer value.CustomerID, at time.Time, verbs ...func(*order.Order, time.Time) error,
) order.Snapshot {
	t.Helper()
	o, err := order.Place(order.ID(newUUID()), customer, value.NewMoney(100, "USD"), at)
	require.NoError(t, err)
	do(t, h, saving(o))
	for _, verb := range verbs {
		do(t, h, changing(o.Snapshot().ID, verb))
	}
	stored, _ := h.Order(t, o.Snapshot().ID)
	return stored
}

func listed(t *testing.T, h Harness, filter orders.Filter) []order.Snapshot {
	t.Helper()
	found, err := h.OrderReader().List(t.Context(), filter)
	require.NoError(t, err)
	return found
}

// newestFirst sorts orders as List does.
func newestFirst(orders []order.Snapshot) []order.Snapshot {
	slices.SortFunc(orders, func(a, b order.Snapshot) int {
		if newer := b.CreatedAt.Compare(a.CreatedAt); newer != 0 {
			return newer
		}
		if a.ID > b.ID {
			return -1
		}
		return 1
	})
	return orders
}

func listOrder(t *testing.T, h Harness) {
	require.Empty(t, listed(t, h, orders.Filter{Limit: 10}))
	customer := value.CustomerID(newUUID())
	var all []order.Snapshot
	for _, minute := range []int{3, 1, 2, 1, 1, 5, 4} {
		all = append(all, placedAt(t, h, customer, morning.Add(time.Duration(minute)*time.Minute)))
	}
	all = newestFirst(all)
	require.Equal(t, all, listed(t, h, orders.Filter{Limit: 100}))
	require.Equal(t, all[:3], listed(t, h, orders.Filter{Limit: 3}))
	require.Empty(t, listed(t, h, orders.Filter{}))

	do(t, h, func(ctx context.Context, tx orders.Tx) error {
		mine := newOrder(t)
		require.NoError(t, save(ctx, tx, mine))
		require.Equal(t, all[:1], listed(t, h, orders.Filter{Limit: 1}), "an order that is not committed is not listed")
		return nil
	})
}

func listFilter(t *testing.T, h Harness) {
	us, them := value.CustomerID(newUUID()), value.CustomerID(newUUID())
	created := placedAt(t, h, us, morning)
	paid := placedAt(t, h, us, morning.Add(time.Minute), pay)
	shipped := placedAt(t, h, them, morning.Add(2*time.Minute), pay, ship)
	cancelled := placedAt(t, h, us, morning.Add(3*time.Minute), pay, cancel)
	for name, c := range map[string]struct {
		filter orders.Filter
		want   []order.Snapshot
	}{
		"customer": {orders.Filter{Customer: us}, []order.Snapshot{cancelled, paid, created}},
		"nobody":   {orders.Filter{Customer: value.CustomerID(newUUID())}, nil},
		"status":   {orders.Filter{Status: order.StatusShipped}, []order.Snapshot{shipped}},
		"both":     {orders.Filter{Customer: us, Status: order.StatusCancelled}, []order.Snapshot{cancelled}},
		"neither":  {orders.Filter{Customer: them, Status: order.StatusPaid}, nil},
		"from":     {orders.Filter{CreatedFrom: morning.Add(time.Minute)}, []order.Snapshot{cancelled, shipped, paid}},
		"before":   {orders.Filter{CreatedBefore: morning.Add(time.Minute)}, []order.Snapshot{created}},
		"a nanosecond later": {
			orders.Filter{CreatedFrom: morning.Add(1), CreatedBefore: morning.Add(2*time.Minute + 1)}, []order.Snapshot{shipped, paid},
		},
		"in another zone": {
			orders.Filter{Customer: us, CreatedBefore: morning.Add(1).In(time.FixedZone("far east", 9*60*60))}, []order.Snapshot{created},
		},
		"an empty range": {orders.Filter{CreatedFrom: morning, CreatedBefore: morning}, nil},
		"everything": {
			orders.Filter{
				Customer: us, Status: order.StatusPaid, CreatedFrom: morning, CreatedBefore: morning.Add(time.Hour),
				After: &orders.PageCursor{CreatedAt: cancelled.CreatedAt, ID: cancelled.ID},
			},
			[]order.Snapshot{paid},
		},
		"the ends of time": {
			orders.Filter{
				CreatedFrom:   time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
				CreatedBefore: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
			},
			[]order.Snapshot{cancelled, shipped, paid, created},
		},
	} {
		c.filter.Limit = 100
		require.Equal(t, c.want, listed(t, h, c.filter), name)
	}
}

// listPages checks that pages neither repeat nor leave out an order while new orders are placed. Some of the new orders have the same time as
// the newest order of the first page.
func listPages(t *testing.T, h Harness) {
	customer := value.CustomerID(newUUID())
	var all []order.Snapshot
	for n := range 25 {
		all = append(all, placedAt(t, h, customer, morning.Add(time.Duration(n/4)*time.Second))) // four orders have the same time
	}
	all = newestFirst(all)
	var read []order.Snapshot
	filter := orders.Filter{Customer: customer, Limit: 3}
	for {
		page := listed(t, h, filter)
		if len(page) == 0 {
			break
		}
		read = append(read, page...)
		last := page[len(page)-1]
		filter.After = &orders.PageCursor{CreatedAt: last.CreatedAt, ID: last.ID}
		placedAt(t, h, customer, morning.Add(time.Hour))
		placedAt(t, h, customer, all[0].CreatedAt)
	}
	seen := make(map[order.ID]bool)
	for _, state := range read {
		require.False(t, seen[state.ID], "read twice")
		seen[state.ID] = true
	}
	for _, state := range all {
		require.True(t, seen[state.ID], "left out")
	}
}
