package infra

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/assylzhan-a/outboxie/test/client"
)

// Customer is who places orders.
const Customer = "550e8400-e29b-41d4-a716-446655440000"

// Serve starts an instance and waits until it listens.
func Serve(t testing.TB, id string, environment []string) *Process {
	t.Helper()
	p := Launch(t, append([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environment...), "serve")
	p.API()
	return p
}

// Outboxie runs a command to its end, and returns all that it said.
func Outboxie(t testing.TB, environment []string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), Binary(t), args...)
	command.Env = append(os.Environ(), environment...)
	said, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return string(said), err
}

// Order is an order as it was answered, and the trace of the request.
type Order struct {
	client.Order
	TraceID string
}

// At is a client of the API, or of the admin listener, at an address.
func At(address string) *client.ClientWithResponses {
	c, err := client.NewClientWithResponses("http://" + address)
	if err != nil {
		panic(err) // an address is part of a URL
	}
	return c
}

// Place posts an order as the README does. Headers are "Name: value".
func Place(api string, headers ...string) (Order, error) { return PlaceFor(api, Customer, headers...) }

// KeepOrdering places and pays orders at several hands until stop is called. It asks before each order where to place it, and for whom.
func KeepOrdering(t testing.TB, hands int, next func(hand int) (api, customer string)) (stop func()) {
	var working sync.WaitGroup
	ended := make(chan struct{})
	for hand := range hands {
		working.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				api, customer := next(hand)
				order, err := PlaceFor(api, customer)
				if err == nil {
					_, err = Transition(api, order.ID, "pay")
				}
				if err != nil {
					t.Errorf("place and pay an order: %v", err)
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(ended)
		working.Wait()
	})
}

// PlaceFor places an order of a customer.
func PlaceFor(api, customer string, headers ...string) (Order, error) {
	order := client.OrderPlacement{CustomerID: customer}
	if err := order.Amount.FromOrderPlacementAmount0(100.50); err != nil {
		return Order{}, err
	}
	answer, err := At(api).PlaceOrderWithResponse(context.Background(), nil, order, func(_ context.Context, request *http.Request) error {
		for _, header := range headers {
			name, value, _ := strings.Cut(header, ": ")
			request.Header.Set(name, value)
		}
		return nil
	})
	switch {
	case err != nil:
		return Order{}, err
	case answer.JSON201 == nil:
		return Order{}, fmt.Errorf("place an order: %s: %s", answer.Status(), answer.Body)
	}
	return Order{*answer.JSON201, *answer.Headers201.TraceID}, nil
}

// Transition pays, ships or cancels an order, without a word about it, as the README does.
func Transition(api, id, verb string) (Order, error) {
	ctx, at := context.Background(), At(api)
	var answer *http.Response
	var err error
	switch verb {
	case "pay":
		answer, err = at.PayOrderWithBody(ctx, id, nil, "", http.NoBody)
	case "ship":
		answer, err = at.ShipOrderWithBody(ctx, id, nil, "", http.NoBody)
	case "cancel":
		answer, err = at.CancelOrderWithBody(ctx, id, nil, "", http.NoBody)
	default:
		err = fmt.Errorf("orders are paid, shipped or cancelled, not %q", verb)
	}
	if err != nil {
		return Order{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s order %s: %s: %s", verb, id, answer.Status, text)
	}
	if err != nil {
		return Order{}, err
	}
	order := Order{TraceID: answer.Header.Get("Trace-Id")}
	return order, json.Unmarshal(text, &order.Order)
}

// Read asks for an order.
func Read(api, id string) (Order, error) {
	answer, err := At(api).GetOrderWithResponse(context.Background(), id)
	switch {
	case err != nil:
		return Order{}, err
	case answer.JSON200 == nil:
		return Order{}, fmt.Errorf("read order %s: %s: %s", id, answer.Status(), answer.Body)
	}
	return Order{Order: *answer.JSON200}, nil
}
