package interleavings_test

import (
	"context"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// service returns the order service of one side, whose new order always has the same id.
func service(s *side) *ordering.Service {
	return ordering.New(ordering.Ports{Work: postgres.NewUnitOfWork(s.db), Encoder: codec.New(nil), Notifier: memory.NewNotifier()},
		func() order.ID { return order.ID(placed[s.index]) },
		func() time.Time { return time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC) })
}

var work = []string{"orders.UnitOfWork.Do"}

// change returns an operation of the order service.
func change(name string, do func(ctx context.Context, s orders.Service) (order.Snapshot, error)) *operation {
	return &operation{name: name, methods: work, do: func(ctx context.Context, s *side) (string, error) {
		state, err := do(ctx, service(s))
		return fmt.Sprintf("%s %s v%d", state.ID, state.Status, state.Version), err
	}}
}

func place(key orders.Key, minor int64) func(context.Context, orders.Service) (order.Snapshot, error) {
	return func(ctx context.Context, s orders.Service) (order.Snapshot, error) {
		return s.Place(ctx, order.Anyone(), customer, value.NewMoney(minor, "EUR"), key)
	}
}

func pay(id string, reference value.Note, key orders.Key) func(context.Context, orders.Service) (order.Snapshot, error) {
	return func(ctx context.Context, s orders.Service) (order.Snapshot, error) {
		return s.Pay(ctx, order.Anyone(), order.ID(id), reference, orders.Precondition{Key: key})
	}
}

func cancel(id string) func(context.Context, orders.Service) (order.Snapshot, error) {
	return func(ctx context.Context, s orders.Service) (order.Snapshot, error) {
		return s.Cancel(ctx, order.Anyone(), order.ID(id), "", orders.Precondition{})
	}
}

var orderOperations = []*operation{
	change("place", place("", 100)),
	change("place with a key", place("key", 100)),
	change("place another order with that key", place("key", 200)),
	change("place with an expired key", place("expired", 100)),
	change("pay", pay(created, "a", "")),
	change("pay with another reference and a key", pay(created, "b", "key")),
	change("cancel", cancel(created)),
	change("cancel what is paid", cancel(paid)),
	change("ship", func(ctx context.Context, s orders.Service) (order.Snapshot, error) {
		return s.Ship(ctx, order.Anyone(), order.ID(paid), "carrier", "1", orders.Precondition{AllowedVersions: []int64{2}})
	}),
	{name: "delete expired keys", methods: []string{"orders.ExpiredKeys.Delete"}, do: func(ctx context.Context, s *side) (string, error) {
		n, err := postgres.NewExpiredKeys(s.db).Delete(ctx, 10)
		return fmt.Sprint(n), err
	}},
}
