package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/assylzhan-a/outboxie"
)

// newBalance returns the handler of the subscriber `balance`: it adds up what each customer owes, in the transaction that records the event.
func newBalance() *outboxie.Handler {
	h := outboxie.NewHandler("balance")
	batch := outboxie.NewBatch(h, addToBalances)
	for _, status := range []Status{Issued, Paid, Voided} {
		outboxie.On(h, eventType(status), func(_ context.Context, tx *outboxie.Tx, _ outboxie.Received, data Changed) error {
			return batch.Add(tx, entry{data, status})
		})
	}
	return h
}

// entry is what one event adds to its customer's balance.
type entry struct {
	Changed
	status Status
}

// addToBalances adds all entries of a transaction with one statement, which locks the customers in the order of their names.
func addToBalances(ctx context.Context, tx *outboxie.Tx, entries []entry) error {
	customers, statuses, cents := make([]string, len(entries)), make([]string, len(entries)), make([]int64, len(entries))
	for i, e := range entries {
		customers[i], statuses[i], cents[i] = e.Customer, string(e.status), e.Cents
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO balances AS b (customer, issued, paid, voided)
		SELECT customer, sum(cents * (status = 'issued')::int), sum(cents * (status = 'paid')::int), sum(cents * (status = 'voided')::int)
		FROM unnest($1::text[], $2::text[], $3::bigint[]) AS entries (customer, status, cents)
		GROUP BY customer ORDER BY customer
		ON CONFLICT (customer) DO UPDATE
			SET issued = b.issued + excluded.issued, paid = b.paid + excluded.paid, voided = b.voided + excluded.voided`,
		customers, statuses, cents)
	return err
}

// mailer tells another system about each event: it posts the payload to a URL, with the event's id as the key.
type mailer struct {
	url    string
	client http.Client
}

// newMailer returns the handler of the subscriber `mailer`.
func newMailer(url string) *outboxie.ExternalHandler {
	m := &mailer{url: url}
	h := outboxie.NewExternalHandler("mailer")
	for _, status := range []Status{Issued, Paid, Voided} {
		outboxie.OnExternal(h, eventType(status), m.post)
	}
	return h
}

// post makes one call, and never repeats it: the engine does that, with the same key. The context of the engine bounds the call.
func (m *mailer) post(ctx context.Context, event outboxie.Received, _ Changed) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(event.Payload))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": event.ID, "Event-Type": event.Type,
		"Invoice": event.Aggregate.ID, "Invoice-Version": strconv.FormatInt(event.Version, 10),
	} {
		request.Header.Set(name, value)
	}
	response, err := m.client.Do(request)
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return outboxie.Unavailable(err) // nobody is there, for no event
	}
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody)) // so that the connection can be used again
	failed := fmt.Errorf("the mailer's endpoint answered %s", response.Status)
	switch code := response.StatusCode; {
	case code < 300:
		return nil
	case code == http.StatusServiceUnavailable:
		return outboxie.Unavailable(failed)
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return failed
	}
	return outboxie.Permanent(failed) // it will never take this event
}
