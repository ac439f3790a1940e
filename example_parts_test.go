package outboxie_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/assylzhan-a/outboxie"
)

// Build reports everything that is missing or wrong at once.
func ExampleBuilder_Build() {
	_, err := outboxie.Configure().Database("postgres://billing@127.0.0.1:5432/billing").Stream("INVOICES", "invoices.>").Build()
	fmt.Println(err)
	// Output:
	// the configuration is wrong:
	//   EVENT_SOURCE is not set; it must be a URI or a path of 1 to 200 ASCII characters, such as /acme/invoices
}

func ExampleNewEvent() {
	event, err := outboxie.NewEvent("acme.invoice.issued.v1", "invoices.issued", outboxie.Aggregate{Type: "invoice", ID: "7"}, 1,
		invoiceIssued{Customer: "ada", Cents: 1250})
	fmt.Println(string(event.Payload), err)
	// Output: {"customer":"ada","cents":1250} <nil>
}

// The invoice and its event commit in one transaction.
func ExampleOutbox_Append() {
	issue := func(ctx context.Context, db *sql.DB, outbox *outboxie.Outbox, id string, data invoiceIssued) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after Commit it does nothing
		if _, err := tx.ExecContext(ctx, "INSERT INTO invoices (id, customer, cents) VALUES ($1, $2, $3)", id, data.Customer, data.Cents); err != nil {
			return err
		}
		event, err := outboxie.NewEvent("acme.invoice.issued.v1", "invoices.issued", outboxie.Aggregate{Type: "invoice", ID: id}, 1, data)
		if err != nil {
			return err
		}
		if err := outbox.Append(ctx, tx, event); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		outbox.Wake()
		return nil
	}
	_ = issue
}

// The aggregate is saved with its next version, so that its row is locked. Then the event of that version is appended.
func ExampleOutbox_AppendPgx() {
	pay := func(ctx context.Context, db *pgx.Conn, outbox *outboxie.Outbox, id string) error {
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			var version int64
			err := tx.QueryRow(ctx, "UPDATE invoices SET paid = true, version = version + 1 WHERE id = $1 RETURNING version", id).Scan(&version)
			if err != nil {
				return err
			}
			return outbox.AppendPgx(ctx, tx, outboxie.Event{
				Type: "acme.invoice.paid.v1", Subject: "invoices.paid", Aggregate: outboxie.Aggregate{Type: "invoice", ID: id}, Version: version,
				Payload: []byte(`{}`),
			})
		})
		if err == nil {
			outbox.Wake()
		}
		return err
	}
	_ = pay
}

// The balance changes in the transaction that records the event, so each event counts once.
func ExampleOn() {
	balances := outboxie.NewHandler("balances")
	outboxie.On(balances, "acme.invoice.issued.v1", func(ctx context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoiceIssued) error {
		if data.Cents <= 0 {
			return outboxie.Permanent(fmt.Errorf("an invoice of %d cents", data.Cents)) // no retry can heal it
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO balances AS b (customer, cents) VALUES ($1, $2)
			ON CONFLICT (customer) DO UPDATE SET cents = b.cents + excluded.cents`, data.Customer, data.Cents)
		return err
	})
}

// The items of all events that share a transaction are written with one statement, sorted by customer, so that transactions do not deadlock.
func ExampleNewBatch() {
	balances := outboxie.NewHandler("balances")
	batch := outboxie.NewBatch(balances, func(ctx context.Context, tx *outboxie.Tx, items []invoiceIssued) error {
		sums := make(map[string]int64)
		for _, item := range items {
			sums[item.Customer] += item.Cents
		}
		type sum struct {
			customer string
			cents    int64
		}
		var sorted []sum
		for customer, cents := range sums {
			sorted = append(sorted, sum{customer, cents})
		}
		slices.SortFunc(sorted, func(a, b sum) int { return cmp.Compare(a.customer, b.customer) })
		var values []string
		var args []any
		for i, each := range sorted {
			values = append(values, fmt.Sprintf("($%d, $%d::bigint)", 2*i+1, 2*i+2))
			args = append(args, each.customer, each.cents)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO balances AS b (customer, cents) VALUES "+strings.Join(values, ", ")+
			" ON CONFLICT (customer) DO UPDATE SET cents = b.cents + excluded.cents", args...)
		return err
	})
	outboxie.On(balances, "acme.invoice.issued.v1", func(_ context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoiceIssued) error {
		return batch.Add(tx, data)
	})
}

// A call may be repeated, so the other system gets the event's ID as the key.
func ExampleOnExternal() {
	mails := outboxie.NewExternalHandler("mails")
	outboxie.OnExternal(mails, "acme.invoice.issued.v1", func(ctx context.Context, event outboxie.Received, data invoiceIssued) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://mail.example.com/send", strings.NewReader(data.Customer))
		if err != nil {
			return outboxie.Permanent(err)
		}
		request.Header.Set("Idempotency-Key", event.ID)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err // the event is tried again later
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode == http.StatusServiceUnavailable {
			return outboxie.Unavailable(errors.New(answer.Status)) // every event waits, and the failure does not count
		}
		if answer.StatusCode >= http.StatusMultipleChoices {
			return fmt.Errorf("the mail service answered %s", answer.Status)
		}
		return nil
	})
}

// Each paid invoice leads to one receipt. The receipt's aggregate has one event, so its version is 1.
func ExampleTx_Append() {
	receipts := outboxie.NewHandler("receipts")
	outboxie.On(receipts, "acme.invoice.paid.v1", func(ctx context.Context, tx *outboxie.Tx, event outboxie.Received, _ struct{}) error {
		return tx.Append(ctx, outboxie.Event{
			Type: "acme.receipt.written.v1", Subject: "invoices.receipts", Aggregate: outboxie.Aggregate{Type: "receipt", ID: event.Aggregate.ID}, Version: 1,
			Payload: []byte(`{}`),
		})
	})
}

// Middleware logs the events that take long.
func ExampleHandler_Use() {
	balances := outboxie.NewHandler("balances").Use(func(next outboxie.HandlerFunc) outboxie.HandlerFunc {
		return func(ctx context.Context, tx *outboxie.Tx, event outboxie.Received) error {
			began := time.Now()
			err := next(ctx, tx, event)
			if took := time.Since(began); took > time.Second {
				slog.WarnContext(ctx, "an event took long", "event", event.ID, "type", event.Type, "took", took)
			}
			return err
		}
	})
	_ = balances
}

// The admin handler has a listener of its own, which only operators reach.
func ExampleEngine_Admin() {
	serve := func(engine *outboxie.Engine) error {
		admin, err := engine.Admin(outboxie.AdminOptions{Token: os.Getenv("ADMIN_TOKEN")})
		if err != nil {
			return err
		}
		server := &http.Server{Addr: "127.0.0.1:8090", Handler: admin, ReadHeaderTimeout: 10 * time.Second}
		return server.ListenAndServe()
	}
	_ = serve
}
