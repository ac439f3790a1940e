// Package e2e_test runs the real program as processes of its own, against real servers, the way an operator would.
package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/test/client"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m) }

const (
	patience = 30 * time.Second
	tick     = 10 * time.Millisecond
)

// serve starts an instance and waits until it listens.
func serve(t *testing.T, id string, environment []string) *infra.Process {
	t.Helper()
	p := infra.Launch(t, append([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environment...), "serve")
	p.API()
	return p
}

const customer = "550e8400-e29b-41d4-a716-446655440000"

// at is a client of the API, or of the admin listener, at an address.
func at(address string) *client.ClientWithResponses {
	c, err := client.NewClientWithResponses("http://" + address)
	if err != nil {
		panic(err) // an address is part of a URL
	}
	return c
}

// placed is an order as it was answered, and the trace of the request.
type placed struct {
	client.Order
	traceID string
}

// place posts an order as the README does.
func place(api string) (placed, error) { return placeFor(api, customer) }

func placeFor(api, customer string) (placed, error) {
	order := client.OrderPlacement{CustomerID: customer}
	if err := order.Amount.FromOrderPlacementAmount0(100.50); err != nil {
		return placed{}, err
	}
	answer, err := at(api).PlaceOrderWithResponse(context.Background(), nil, order)
	switch {
	case err != nil:
		return placed{}, err
	case answer.JSON201 == nil:
		return placed{}, fmt.Errorf("place an order: %s: %s", answer.Status(), answer.Body)
	}
	return placed{*answer.JSON201, *answer.Headers201.TraceID}, nil
}

// transition changes an order without a word about it, as the README does.
func transition(api, id, verb string) (placed, error) {
	var order *client.Order
	var status string
	var body []byte
	switch verb {
	case "pay":
		answer, err := at(api).PayOrderWithBodyWithResponse(context.Background(), id, nil, "", http.NoBody)
		if err != nil {
			return placed{}, err
		}
		order, status, body = answer.JSON200, answer.Status(), answer.Body
	case "ship":
		answer, err := at(api).ShipOrderWithBodyWithResponse(context.Background(), id, nil, "", http.NoBody)
		if err != nil {
			return placed{}, err
		}
		order, status, body = answer.JSON200, answer.Status(), answer.Body
	case "cancel":
		answer, err := at(api).CancelOrderWithBodyWithResponse(context.Background(), id, nil, "", http.NoBody)
		if err != nil {
			return placed{}, err
		}
		order, status, body = answer.JSON200, answer.Status(), answer.Body
	}
	if order == nil {
		return placed{}, fmt.Errorf("%s order %s: %s: %s", verb, id, status, body)
	}
	return placed{Order: *order}, nil
}

func read(api, id string) (placed, error) {
	answer, err := at(api).GetOrderWithResponse(context.Background(), id)
	switch {
	case err != nil:
		return placed{}, err
	case answer.JSON200 == nil:
		return placed{}, fmt.Errorf("read order %s: %s: %s", id, answer.Status(), answer.Body)
	}
	return placed{Order: *answer.JSON200}, nil
}
