package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/checker"
)

const (
	requestTimeout = 2500 * time.Millisecond
	retryPause     = 50 * time.Millisecond
)

// writer is a client of the API who does not give up: it asks one instance after the other until it has an answer.
type writer struct {
	number    int
	instances []string
	client    *http.Client
	ledger    *checker.Ledger
	random    *rand.Rand
	every     time.Duration // the mean time between two orders
	wait      *atomic.Bool  // true: not now
	complain  func(format string, v ...any)

	customer uuid.UUID
	orders   int64 // so far; also what the next one costs
	retries  int
	waited   int // orders that were not asked for
}

// answer is what is read of an answer's body.
type answer struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Version int64  `json:"version"`
}

// run places orders and moves them along until stop is closed, and then returns as soon as the command in hand is
// answered, or ctx ends.
func (w *writer) run(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(w.random.ExpFloat64() * float64(w.every))):
		}
		if w.wait.Load() {
			w.waited++
			continue
		}
		order, placed := w.place(ctx)
		if !placed {
			return
		}
		for _, verb := range w.plan() {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(w.random.IntN(50)) * time.Millisecond):
			}
			if !w.change(ctx, order, verb) {
				return
			}
		}
	}
}

// plan is what happens to an order.
func (w *writer) plan() []string {
	switch w.random.IntN(5) {
	case 0:
		return nil
	case 1:
		return []string{"cancel"}
	case 2:
		return []string{"pay"}
	case 3:
		return []string{"pay", "cancel"}
	default:
		return []string{"pay", "ship"}
	}
}

// place asks for an order, under one key however often it asks.
func (w *writer) place(ctx context.Context) (string, bool) {
	w.orders++
	placement := checker.Placement{Customer: checker.ID(w.customer), Minor: w.orders}
	w.ledger.Asked(placement)
	key := uuid.NewString()
	body := fmt.Sprintf(`{"customer_id": %q, "amount": %d.%02d}`, w.customer, w.orders/100, w.orders%100)
	got, status, ok := w.ask(ctx, http.MethodPost, "/orders", key, body)
	if !ok {
		return "", false
	}
	id, err := checker.ParseID(got.ID)
	if status != http.StatusCreated || err != nil || got.Version != 1 {
		w.complain("writer %d: POST /orders was answered with %d and %+v", w.number, status, got)
		return "", false
	}
	w.ledger.Placed(placement, id)
	w.ledger.Acknowledged(id, 1)
	return got.ID, true
}

// reached is the status that a verb leads to.
var reached = map[string]string{"pay": "paid", "ship": "shipped", "cancel": "cancelled"}

// change moves an order along. A refusal may come from a try whose answer was lost, and which did it; the order itself
// tells.
func (w *writer) change(ctx context.Context, order, verb string) bool {
	id, _ := checker.ParseID(order) // it was parsed when it was placed
	for range 100 {                 // each after a request that somebody answered
		got, status, ok := w.ask(ctx, http.MethodPost, "/orders/"+order+"/"+verb, "", "")
		if ok && status == http.StatusConflict {
			got, status, ok = w.ask(ctx, http.MethodGet, "/orders/"+order, "", "")
		}
		switch {
		case !ok:
			return false
		case status != http.StatusOK:
			w.complain("writer %d: %s %s was answered with %d", w.number, verb, order, status)
			return false
		}
		w.ledger.Acknowledged(id, got.Version)
		if got.Status == reached[verb] {
			return true
		}
	}
	w.complain("writer %d: %s %s is refused, and the order does not get there", w.number, verb, order)
	return false
}

// ask sends a request until somebody answers it; what is unavailable, or takes too long, does not. It returns false when
// ctx ends first.
func (w *writer) ask(ctx context.Context, method, path, key, body string) (got answer, status int, ok bool) {
	for instance := w.random.IntN(len(w.instances)); ; instance++ {
		got, status, err := w.once(ctx, method, "http://"+w.instances[instance%len(w.instances)]+path, key, body)
		if err == nil && status < http.StatusInternalServerError && status != http.StatusRequestTimeout {
			return got, status, true
		}
		if err == nil && status == http.StatusInternalServerError {
			w.complain("writer %d: %s %s was answered with %d", w.number, method, path, status)
		}
		w.retries++
		if !pause(ctx, retryPause) {
			return answer{}, 0, false
		}
	}
}

func (w *writer) once(ctx context.Context, method, url, key, body string) (got answer, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return got, 0, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return got, 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= http.StatusMultipleChoices {
		return got, response.StatusCode, err
	}
	return got, response.StatusCode, json.Unmarshal(text, &got)
}
