// Package ordercheck checks what the order service promises beyond the engine: one order per idempotency key, and totals that are the sums of
// the orders that a subscriber applied. The demo and the tests that inject faults fill a Ledger, and pass New to the checker as its Service.
package ordercheck

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// The checks of the order service's promises.
const (
	Keys   checker.Check = "C8 one order per idempotency key"
	Totals checker.Check = "C9 totals of the applied orders"
)

const (
	typeCreated     = "outboxie.order.created.v1"
	totalsStatement = `SELECT subscriber, customer_id, currency, amount_minor + amount, orders FROM customer_totals`
)

// Total is the number and the sum of orders that one subscriber counted for one customer.
type Total struct {
	Subscriber, Customer, Currency string
	Minor, Orders                  int64
}

// ReadTotals reads the totals that subscribers counted.
func ReadTotals(ctx context.Context, db *sql.DB) iter.Seq2[Total, error] {
	return checker.Query(ctx, db, totalsStatement, func(rows *sql.Rows) (t Total, err error) {
		return t, rows.Scan(&t.Subscriber, &t.Customer, &t.Currency, &t.Minor, &t.Orders)
	})
}

// New returns the checks of a run. counting has the subscribers that count totals.
func New(ledger *Ledger, totals iter.Seq2[Total, error], counting ...string) checker.Service {
	s := &service{
		ledger: ledger, totals: totals, counting: counting, created: make(map[checker.ID]placed), customers: make(map[account]struct{}),
		made: make(map[Placement][]checker.ID), expected: make(map[string]map[account]sum),
	}
	for _, subscriber := range counting {
		s.expected[subscriber] = make(map[account]sum)
	}
	return s
}

type service struct {
	ledger    *Ledger
	totals    iter.Seq2[Total, error]
	counting  []string
	created   map[checker.ID]placed      // by event: the order that it created
	customers map[account]struct{}       // that have orders in the log
	made      map[Placement][]checker.ID // the orders in the log for each placement of the ledger
	expected  map[string]map[account]sum // by subscriber: the totals that follow from its effects
}

type account struct{ customer, currency string }

type sum struct{ minor, orders int64 }

// placed has the data of a created order that count in its customer's total.
type placed struct {
	account account
	minor   int64
}

// Event keeps the order that an event created. If the ledger has a placement with the same customer and amount, made gets the id of the order
// under this placement.
func (s *service) Event(event checker.Event) error {
	if event.Type != typeCreated {
		return nil
	}
	var body struct {
		Customer string `json:"customer_id"`
		Amount   string `json:"amount"`
		Currency string `json:"currency"`
	}
	err := json.Unmarshal(event.Payload, &body)
	minor, parseErr := strconv.ParseInt(strings.Replace(body.Amount, ".", "", 1), 10, 64)
	customer, idErr := checker.ParseID(body.Customer)
	_, text, _ := strings.Cut(event.Aggregate, "/")
	order, orderErr := checker.ParseID(text)
	if err := errors.Join(err, parseErr, idErr, orderErr); err != nil {
		return fmt.Errorf("%.200s is not an order: %w", event.Payload, err)
	}
	key := account{body.Customer, body.Currency}
	s.customers[key] = struct{}{}
	s.created[event.ID] = placed{account: key, minor: minor}
	placement := Placement{Customer: customer, Minor: minor}
	if _, requested := s.ledger.placed[placement]; requested {
		s.made[placement] = append(s.made[placement], order)
	}
	return nil
}

// Applied adds a created order to the total that the subscriber must have counted.
func (s *service) Applied(effect checker.Effect) {
	order, is := s.created[effect.ID]
	sums, counts := s.expected[effect.Subscriber]
	if is && counts {
		total := sums[order.account]
		sums[order.account] = sum{total.minor + order.minor, total.orders + 1}
	}
}

// Judge compares the orders with the requests of clients, and the totals with the effects.
func (s *service) Judge(report checker.Report) error {
	s.judgeKeys(report)
	return s.judgeTotals(report)
}

func (s *service) judgeKeys(report checker.Report) {
	report.Checked(Keys, len(s.ledger.placed), "keys")
	for placement, orders := range s.made {
		if len(orders) > 1 {
			report.Found(Keys, "customer %s, amount %d: one key has several orders, %v", placement.Customer, placement.Minor, orders)
		}
		if answered := s.ledger.placed[placement]; answered != (checker.ID{}) && !slices.Contains(orders, answered) {
			report.Found(Keys, "customer %s, amount %d: the log has orders %v, but the client was told %s",
				placement.Customer, placement.Minor, orders, answered)
		}
	}
}

func (s *service) judgeTotals(report checker.Report) error {
	counted := make(map[string]map[account]sum)
	for _, subscriber := range s.counting {
		counted[subscriber] = make(map[account]sum)
	}
	for total, err := range s.totals {
		if err != nil {
			return fmt.Errorf("read the totals: %w", err)
		}
		if of, known := counted[total.Subscriber]; known {
			of[account{total.Customer, total.Currency}] = sum{total.Minor, total.Orders}
		}
	}
	report.Checked(Totals, len(s.customers)*len(s.counting), "totals of customers and subscribers")
	for _, subscriber := range s.counting {
		for key := range s.customers {
			if got, want := counted[subscriber][key], s.expected[subscriber][key]; got != want {
				report.Found(Totals, "%s counted %d orders of %d for customer %s in %s, and applied %d of %d",
					subscriber, got.orders, got.minor, key.customer, key.currency, want.orders, want.minor)
			}
		}
		for key, got := range counted[subscriber] {
			if _, is := s.customers[key]; !is {
				report.Found(Totals, "%s counted %d orders for customer %s in %s, the log has none",
					subscriber, got.orders, key.customer, key.currency)
			}
		}
	}
	return nil
}
