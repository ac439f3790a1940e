package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

const balancesCheck checker.Check = "C8 balances of the invoices"

// judge has the checker check the run.
func judge(t *testing.T, w *world, ledger *checker.Ledger, mails *mailbox, recovery checker.Recovery) {
	t.Helper()
	results, err := checker.Open(t.Context(), checker.Source{DatabaseURL: w.database, NATSURL: w.broker, Stream: stream})
	require.NoError(t, err)
	defer func() { require.NoError(t, results.Close()) }()
	history := results.History(t.Context())
	history.Ledger, history.Recovery = ledger, recovery
	history.Subscribers, history.External, history.Calls = []string{"balance", "mailer"}, []string{"mailer"}, mails.all()
	history.Service = &balances{
		db: results.DB, events: make(map[checker.ID]change), expected: make(map[string]sums), invoices: make(map[string]sums),
	}
	verdict, err := checker.Verify(history)
	require.NoError(t, err)
	t.Logf("the checker:\n%s", verdict)
	require.Empty(t, verdict.Failed(), "%s", verdict)
	require.Empty(t, mails.strange)
	require.EqualValues(t, w.count("SELECT count(*) FROM outbox"), len(mails.effects), "one letter for each event")
	require.EqualValues(t, ledgerless(t, w), 0, "rows of invoices without their event")
}

// ledgerless counts the invoices whose version is not that of their last event.
func ledgerless(t *testing.T, w *world) int64 {
	t.Helper()
	return w.count(`SELECT count(*) FROM invoices AS i FULL JOIN
		(SELECT aggregate_id, max(aggregate_version) AS version FROM outbox GROUP BY aggregate_id) AS o ON o.aggregate_id = i.id
		WHERE i.version IS DISTINCT FROM o.version`)
}

// sums are what a customer's invoices come to.
type sums struct{ issued, paid, voided int64 }

func (s sums) plus(o sums) sums {
	return sums{s.issued + o.issued, s.paid + o.paid, s.voided + o.voided}
}

type change struct {
	customer string
	sums     sums
}

// balances is the checker's Service: the balance of a customer is the sum of the events that took effect, and each invoice counts once.
type balances struct {
	db       *sql.DB
	events   map[checker.ID]change
	expected map[string]sums // by customer
	invoices map[string]sums // by invoice
}

func (b *balances) Event(event checker.Event) error {
	var payload Changed
	if err := json.Unmarshal(event.Payload, &payload); err != nil {
		return err
	}
	var sum sums
	switch event.Type {
	case eventType(Issued):
		sum.issued = payload.Cents
	case eventType(Paid):
		sum.paid = payload.Cents
	case eventType(Voided):
		sum.voided = payload.Cents
	default:
		return fmt.Errorf("its type is %q", event.Type)
	}
	b.events[event.ID] = change{payload.Customer, sum}
	b.invoices[event.Aggregate] = b.invoices[event.Aggregate].plus(sum)
	return nil
}

func (b *balances) Applied(effect checker.Effect) {
	if effect.Subscriber == "balance" {
		c := b.events[effect.ID]
		b.expected[c.customer] = b.expected[c.customer].plus(c.sums)
	}
}

func (b *balances) Judge(report checker.Report) error {
	report.Checked(balancesCheck, len(b.expected), "customers")
	for invoice, sum := range b.invoices {
		if ended := sum.paid + sum.voided; sum.issued <= 0 || (ended != 0 && ended != sum.issued) {
			report.Found(balancesCheck, "%s was issued, paid and voided over %v", invoice, sum)
		}
	}
	rows, err := b.db.QueryContext(context.Background(), "SELECT customer, issued, paid, voided FROM balances")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var customer string
		var sum sums
		if err := rows.Scan(&customer, &sum.issued, &sum.paid, &sum.voided); err != nil {
			return err
		}
		if want := b.expected[customer]; sum != want {
			report.Found(balancesCheck, "%s has %v, want %v", customer, sum, want)
		}
		delete(b.expected, customer)
	}
	for customer := range b.expected {
		report.Found(balancesCheck, "%s has no balance", customer)
	}
	return rows.Err()
}
