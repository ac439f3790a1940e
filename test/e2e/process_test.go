// Package e2e_test runs the real program as processes of its own, against real servers, the way an operator would.
package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m) }

const patience = 30 * time.Second

// serve starts an instance and waits until it listens.
func serve(t *testing.T, id string, environment []string) *infra.Process {
	t.Helper()
	p := infra.Launch(t, append([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environment...), "serve")
	p.API()
	return p
}

type placed struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Version int64  `json:"version"`
	traceID string
}

const customer = "550e8400-e29b-41d4-a716-446655440000"

// place posts an order as the README does.
func place(api string) (placed, error) {
	return call(http.MethodPost, "http://"+api+"/orders", fmt.Sprintf(`{"customer_id": %q, "amount": 100.50}`, customer), http.StatusCreated)
}

func transition(api, id, verb string) (placed, error) {
	return call(http.MethodPost, "http://"+api+"/orders/"+id+"/"+verb, "", http.StatusOK)
}

func call(method, url, body string, want int) (placed, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return placed{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return placed{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return placed{}, err
	}
	if answer.StatusCode != want {
		return placed{}, fmt.Errorf("%s %s: %s: %s", method, url, answer.Status, text)
	}
	order := placed{traceID: answer.Header.Get("Trace-Id")}
	return order, json.Unmarshal(text, &order)
}
