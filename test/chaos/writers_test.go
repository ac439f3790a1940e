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

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

const (
	requestTimeout = 2500 * time.Millisecond
	retryPause     = 50 * time.Millisecond
	keyHeader      = "Idempotency-Key"
)

// writer is a client of the API that tries one instance after the other until it has an answer.
type writer struct {
	number        int
	instances     []string
	client        *http.Client
	ledger        *ordercheck.Ledger
	random        *rand.Rand
	every         time.Duration // the mean time between two orders
	wait          *atomic.Bool  // true: place no order now
	deployed      *atomic.Bool  // every subscriber wants the new type
	reportProblem func(format string, v ...any)

	customer uuid.UUID
	orders   int64 // orders so far; each order costs its number in cents
	retries  int
	waited   int // orders that were not placed because of wait
}

// answer holds the fields of an answer's body that the test reads.
type answer struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Version int64  `json:"version"`
}

// run places, pays, ships and cancels orders until stop is closed. Then it returns as soon as its current command is answered, or ctx ends.
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
		version := int64(1)
		for _, verb := range w.plan() {
			if verb == "ship" && !w.deployed.Load() {
				break
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(w.random.IntN(50)) * time.Millisecond):
			}
			var changed bool
			if version, changed = w.change(ctx, order, verb, version); !changed {
				return
			}
		}
	}
}

// plan returns the changes of an order.
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

// place places an order, with the same key for every try.
func (w *writer) place(ctx context.Context) (string, bool) {
	w.orders++
	placement := ordercheck.Placement{Customer: checker.ID(w.customer), Minor: w.orders}
	w.ledger.OrderRequested(placement)
	headers := map[string]string{keyHeader: uuid.NewString(), "Content-Type": "application/json"}
	body := fmt.Sprintf(`{"customer_id": %q, "amount": %d.%02d}`, w.customer, w.orders/100, w.orders%100)
	got, status, ok := w.ask(ctx, http.MethodPost, "/orders", headers, body)
	if !ok {
		return "", false
	}
	id, err := checker.ParseID(got.ID)
	if status != http.StatusCreated || err != nil || got.Version != 1 {
		w.reportProblem("writer %d: POST /orders was answered with %d and %+v", w.number, status, got)
		return "", false
	}
	w.ledger.OrderAnswered(placement, id)
	w.ledger.OrderAcknowledged(id, 1)
	return got.ID, true
}

// reached maps a verb to the status that it leads to.
var reached = map[string]string{"pay": "paid", "ship": "shipped", "cancel": "cancelled"}

// change changes an order once, with the same key and version for every try: if an answer was lost, the next try gets the same answer. It
// returns the order's new version.
func (w *writer) change(ctx context.Context, order, verb string, version int64) (int64, bool) {
	id, _ := checker.ParseID(order) // place has parsed it before
	headers := map[string]string{keyHeader: uuid.NewString(), "If-Match": fmt.Sprintf(`"%d"`, version)}
	got, status, ok := w.ask(ctx, http.MethodPost, "/orders/"+order+"/"+verb, headers, "")
	if !ok {
		return 0, false
	}
	if status != http.StatusOK || got.Status != reached[verb] || got.Version != version+1 {
		w.reportProblem("writer %d: %s %s at version %d was answered with %d and %+v", w.number, verb, order, version, status, got)
		return 0, false
	}
	w.ledger.OrderAcknowledged(id, got.Version)
	return got.Version, true
}

// ask sends a request to one instance after the other until one answers it. It returns false when ctx ends first.
func (w *writer) ask(ctx context.Context, method, path string, headers map[string]string, body string) (got answer, status int, ok bool) {
	for instance := w.random.IntN(len(w.instances)); ; instance++ {
		got, status, err := w.once(ctx, method, "http://"+w.instances[instance%len(w.instances)]+path, headers, body)
		if err == nil && status < http.StatusInternalServerError && status != http.StatusRequestTimeout {
			return got, status, true
		}
		if err == nil && status == http.StatusInternalServerError {
			w.reportProblem("writer %d: %s %s was answered with %d", w.number, method, path, status)
		}
		w.retries++
		if !pause(ctx, retryPause) {
			return answer{}, 0, false
		}
	}
}

func (w *writer) once(ctx context.Context, method, url string, headers map[string]string, body string) (got answer, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return got, 0, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
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
