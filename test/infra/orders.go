package infra

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
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

// Order is what an instance answers, and the trace of the request.
type Order struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Version int64  `json:"version"`
	TraceID string `json:"-"`
}

// Place posts an order as the README does. Headers are "Name: value".
func Place(api string, headers ...string) (Order, error) {
	body := fmt.Sprintf(`{"customer_id": %q, "amount": 100.50}`, Customer)
	return Call(http.MethodPost, "http://"+api+"/orders", body, http.StatusCreated, headers...)
}

// Transition pays, ships or cancels an order.
func Transition(api, id, verb string) (Order, error) {
	return Call(http.MethodPost, "http://"+api+"/orders/"+id+"/"+verb, "", http.StatusOK)
}

// Call sends a request, and fails if the answer has another status than want.
func Call(method, url, body string, want int, headers ...string) (Order, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return Order{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return Order{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return Order{}, err
	}
	if answer.StatusCode != want {
		return Order{}, fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, text)
	}
	order := Order{TraceID: answer.Header.Get("Trace-Id")}
	return order, json.Unmarshal(text, &order)
}
