package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/internal/playground/processes"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

const (
	requestTimeout = 5 * time.Second
	retryPause     = 50 * time.Millisecond
)

// client places orders, as many clients of the API would, and records the answers. If no answer or a server error comes, client sends the
// order again, to the next instance, with the same Idempotency-Key. It gives up after processes.WaitTimeout.
type client struct {
	api    func(instance string) string
	token  func() string // an access token; empty: the API does not ask
	ledger *ordercheck.Ledger
	http   http.Client

	accepted atomic.Int64 // orders
	again    atomic.Int64 // requests that were sent again
}

func newClient(api func(instance string) string, token func() string) *client {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	return &client{api: api, token: token, ledger: ordercheck.NewLedger(), http: http.Client{Transport: transport, Timeout: requestTimeout}}
}

// customer places orders. All orders of one customer have different amounts, so each order can be recognized.
type customer struct {
	id     uuid.UUID
	orders int64
}

func newCustomer() *customer { return &customer{id: uuid.New()} }

// placement is an order to be placed, with the idempotency key that every try uses.
type placement struct {
	ordercheck.Placement
	key string
}

func (c *customer) next() placement {
	c.orders++
	return placement{ordercheck.Placement{Customer: checker.ID(c.id), Minor: c.orders}, uuid.NewString()}
}

func (p placement) body() string {
	return fmt.Sprintf(`{"customer_id": %q, "amount": %d.%02d}`, p.Customer, p.Minor/100, p.Minor%100)
}

// placed is an order that an instance has accepted.
type placed struct {
	ID       string `json:"id"`
	traceID  string
	instance string // the instance that answered
}

// place asks the instances in turn until one has accepted the order.
func (c *client) place(ctx context.Context, p placement, instances ...string) (placed, error) {
	c.ledger.OrderRequested(p.Placement)
	order, err := c.ask(ctx, p, instances)
	if err != nil {
		return placed{}, err
	}
	id, err := checker.ParseID(order.ID)
	if err != nil {
		return placed{}, fmt.Errorf("%s accepted an order without an id: %w", order.instance, err)
	}
	c.ledger.OrderAnswered(p.Placement, id)
	c.ledger.OrderAcknowledged(id, 1)
	c.accepted.Add(1)
	return order, nil
}

// confirm sends an accepted order again, as a client does if the answer was lost. It checks that the answer names the same order.
func (c *client) confirm(ctx context.Context, p placement, order placed, instances ...string) error {
	c.again.Add(1)
	again, err := c.ask(ctx, p, instances)
	if err == nil && again.ID != order.ID {
		err = fmt.Errorf("order %s was sent again with its Idempotency-Key, and %s made another one of it, %s",
			order.ID, again.instance, again.ID)
	}
	return err
}

// errRefused reports an answer that another try does not change.
var errRefused = errors.New("refused")

func (c *client) ask(ctx context.Context, p placement, instances []string) (placed, error) {
	ctx, cancel := context.WithTimeout(ctx, processes.WaitTimeout)
	defer cancel()
	for try := 0; ; try++ {
		instance := instances[try%len(instances)]
		order, err := c.post(ctx, instance, p)
		switch {
		case err == nil || errors.Is(err, errRefused):
			return order, err
		case !processes.Pause(ctx, retryPause):
			return placed{}, fmt.Errorf("nobody accepted an order within %s; %w", processes.WaitTimeout, err)
		}
		c.again.Add(1)
	}
}

func (c *client) post(ctx context.Context, instance string, p placement) (placed, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.api(instance)+"/orders", strings.NewReader(p.body()))
	if err != nil {
		return placed{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", p.key)
	if token := c.token(); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return placed{}, fmt.Errorf("%s: %w", instance, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return placed{}, fmt.Errorf("%s: %w", instance, err)
	case answer.StatusCode >= http.StatusInternalServerError:
		return placed{}, fmt.Errorf("%s answered %s: %s", instance, answer.Status, text)
	case answer.StatusCode != http.StatusCreated:
		return placed{}, fmt.Errorf("%w: %s answered %s: %s", errRefused, instance, answer.Status, text)
	}
	order := placed{traceID: answer.Header.Get("Trace-Id"), instance: instance}
	return order, json.Unmarshal(text, &order)
}
