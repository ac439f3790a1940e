package ordering_test

import (
	"context"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// The example places an order and shows its event in the log.
func Example() {
	log := memory.NewLog()
	service := ordering.New(ordering.Ports{
		Work: memory.NewUnitOfWork(log), Encoder: codec.New(nil), Notifier: memory.NewNotifier(),
	}, func() order.ID { return "018f2f6e-7c1a-7000-8000-000000000001" }, time.Now)

	const customer = value.CustomerID("550e8400-e29b-41d4-a716-446655440000")
	placed, err := service.Place(context.Background(), order.Anyone(), customer, value.NewMoney(10050, "USD"), "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("order:", placed.Status, placed.Amount)
	for _, event := range log.Committed() {
		fmt.Println("event:", event.Type, "at position", event.Position)
	}

	// Output:
	// order: created 100.50 USD
	// event: outboxie.order.created.v1 at position 1
}
