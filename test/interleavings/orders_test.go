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
func service(s *side, sealed bool) *ordering.Service {
	return ordering.New(ordering.Ports{Work: postgres.NewUnitOfWork(s.db), Encoder: codec.New(nil), Notifier: memory.NewNotifier(), Seal: sealed},
		func() order.ID { return order.ID(placed[s.index]) },
		func() time.Time { return time.Date(2020, 2, 1, 0, 0, 0, 0, time.UTC) })
}

var work = []string{"orders.UnitOfWork.Do"}

// change returns an operation of the order service.
func change(name string, do func(ctx context.Context, s orders.Service) (order.Snapshot, error)) *operation {
	return &operation{name: name, methods: work, do: func(ctx context.Context, s *side) (string, error) {
		state, err := do(ctx, service(s, false))
		return fmt.Sprintf("%s %s v%d", state.ID, state.Status, state.Version), err
	}}
}

// sealedChange returns the same operation of a service that seals its events.
func sealedChange(name string, do func(ctx context.Context, s orders.Service) (order.Snapshot, error)) *operation {
	return &operation{name: name, methods: work, do: func(ctx context.Context, s *side) (string, error) {
		state, err := do(ctx, service(s, true))
		return fmt.Sprintf("%s %s v%d", state.ID, state.Status, state.Version), err
	}}
}

// erasing returns an operation that erases a customer. Each side gives the orders another pseudonym.
func erasing(in *state, name string, customer value.CustomerID) *operation {
	const overtaken = "a plain event that the subscriber handles at the same time may leave a letter: the command names the subscriber, and is run again"
	return &operation{name: name, in: in, overtaken: overtaken, methods: []string{"orders.PersonalData.Erase"}, do: func(ctx context.Context, s *side) (string, error) {
		found, err := postgres.NewPersonalData(s.db).Erase(ctx, customer, value.CustomerID(uuidOf(pseudonyms, s.index+1)))
		return fmt.Sprintf("%d orders, key %t", found.Orders, found.Key), err
	}}
}

func place(key orders.Key, minor int64) func(context.Context, orders.Service) (order.Snapshot, error) {
	return placeFor(customer, key, minor)
}

func placeFor(customer value.CustomerID, key orders.Key, minor int64) func(context.Context, orders.Service) (order.Snapshot, error) {
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
	sealedChange("place, sealed", place("", 100)),
	sealedChange("place with a key, sealed", place("key", 100)),
	sealedChange("place with an expired key, sealed", place("expired", 100)),
	sealedChange("place the first order of a customer, sealed", placeFor(newcomer, "", 100)),
	sealedChange("pay, sealed", pay(created, "a", "key")),
	erasing(nil, "erase the customer", customer),
	erasing(nil, "erase a customer without orders", newcomer),
	guessing(&operation{name: "delete expired keys", methods: []string{"orders.ExpiredKeys.Delete"}, do: func(ctx context.Context, s *side) (string, error) {
		n, err := postgres.NewExpiredKeys(s.db).Delete(ctx, 10)
		return fmt.Sprint(n), err
	}}, map[string]string{"ok 1": "a key that somebody has locked is passed over, and was deleted by the other side"}),
}
