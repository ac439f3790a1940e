package infra

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Customer is the id of the customer who places orders.
const Customer = "550e8400-e29b-41d4-a716-446655440000"

// Serve starts an instance and waits until it listens.
func Serve(t testing.TB, id string, environment []string) *Process {
	t.Helper()
	p := Launch(t, append([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environment...), "serve")
	p.API()
	return p
}

// Outboxie runs a command to its end, and returns its whole output.
func Outboxie(t testing.TB, environment []string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), Binary(t), args...)
	command.Env = append(os.Environ(), environment...)
	output, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, output)
	}
	return string(output), err
}

// Place posts an order as the README does. Headers are "Name: value".
func Place(api string, headers ...string) (Order, error) { return PlaceFor(api, Customer, headers...) }

// KeepOrdering places and pays orders in several goroutines, the workers, until stop is called. Before each order it calls next, which says
// where to place the order, and for which customer.
func KeepOrdering(t testing.TB, workers int, next func(worker int) (api, customer string)) (stop func()) {
	var working sync.WaitGroup
	ended := make(chan struct{})
	for worker := range workers {
		working.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				api, customer := next(worker)
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
	body := fmt.Sprintf(`{"customer_id": %q, "amount": 100.50}`, customer)
	order, err := Client{Address: api}.order(context.Background(), http.MethodPost, "/orders", body, headers...)
	if err != nil {
		err = fmt.Errorf("place an order: %w", err)
	}
	return order, err
}

// Transition pays, ships or cancels an order with an empty request, as the README does.
func Transition(api, id, verb string) (Order, error) {
	order, err := Client{Address: api}.order(context.Background(), http.MethodPost, "/orders/"+id+"/"+verb, "")
	if err != nil {
		err = fmt.Errorf("%s order %s: %w", verb, id, err)
	}
	return order, err
}

// Read returns an order.
func Read(api, id string) (Order, error) {
	order, err := Client{Address: api}.order(context.Background(), http.MethodGet, "/orders/"+id, "")
	if err != nil {
		err = fmt.Errorf("read order %s: %w", id, err)
	}
	return order, err
}
