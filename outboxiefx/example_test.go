package outboxiefx_test

import (
	"context"
	"fmt"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie"
	"github.com/assylzhan-a/outboxie/outboxiefx"
)

type balances struct{ table string }

// newBalances is a constructor: fx calls it with what other constructors provide.
func newBalances(b balances) *outboxie.Handler {
	h := outboxie.NewHandler("balances")
	outboxie.On(h, "acme.invoice.issued.v1", func(ctx context.Context, tx *outboxie.Tx, _ outboxie.Received, data struct{ Cents int64 }) error {
		_, err := tx.ExecContext(ctx, "UPDATE "+b.table+" SET cents = cents + $1", data.Cents)
		return err
	})
	return h
}

// A service of two modules: the engine, and a module with a subscriber.
func Example() {
	service := fx.Options(
		outboxiefx.Module(func(b *outboxie.Builder) {
			b.Database("postgres://billing@127.0.0.1:5432/billing").NATS("nats://127.0.0.1:4222").Stream("INVOICES", "invoices.>").Source("/acme/billing")
		}, outboxiefx.Migrate(), outboxiefx.Relay()),
		fx.Module("balances",
			fx.Provide(func() balances { return balances{"balances"} }),
			outboxiefx.Subscriber("balances", newBalances, outboxie.SubscriberOptions{Lanes: 4}),
		),
	)
	fmt.Println(fx.ValidateApp(service)) // fx.New(service).Run() runs it
	// Output: <nil>
}
