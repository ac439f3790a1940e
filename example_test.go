package outboxie_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"

	"github.com/assylzhan-a/outboxie"
)

// invoiceIssued is the payload of an event.
type invoiceIssued struct {
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// A process that publishes the events of a billing service, and keeps the balance of each customer. DATABASE_URL and NATS_URL name the servers.
func Example() {
	run := func(ctx context.Context) error {
		engine, err := outboxie.Configure().Environment(os.Environ()).Stream("INVOICES", "invoices.>").Source("/acme/billing").Build()
		if err != nil {
			return err
		}
		defer engine.Close()

		balances := outboxie.NewHandler("balances")
		outboxie.On(balances, "acme.invoice.issued.v1", func(ctx context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoiceIssued) error {
			_, err := tx.ExecContext(ctx, "UPDATE balances SET cents = cents + $1 WHERE customer = $2", data.Cents, data.Customer)
			return err
		})
		subscriber := engine.Subscriber("balances", balances, outboxie.SubscriberOptions{})
		if err := errors.Join(subscriber, engine.Relay(), engine.Migrate(ctx)); err != nil {
			return err
		}
		return engine.Run(ctx)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("the service cannot go on", "error", err)
	}
}
