//go:build scale

package scale_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// load places and pays orders until it is stopped, and records the answers in a ledger. It sends each request with one key to one instance after
// the other, until an instance answers.
type load struct {
	t       *testing.T
	apis    []string
	ledger  *ordercheck.Ledger
	client  *http.Client
	ended   chan struct{}
	once    sync.Once
	writing sync.WaitGroup
	retries atomic.Int64
}

const (
	writers    = 4
	orderEvery = 150 * time.Millisecond // of each writer
	answerIn   = 3 * time.Second
)

func startLoad(t *testing.T, apis ...string) *load {
	l := &load{
		t: t, apis: apis, ledger: ordercheck.NewLedger(), ended: make(chan struct{}),
		client: &http.Client{Timeout: answerIn, Transport: &http.Transport{MaxIdleConnsPerHost: writers}},
	}
	for writer := range writers {
		l.writing.Go(func() { l.write(writer) })
	}
	t.Cleanup(l.stop)
	return l
}

// stop ends the load, and returns when every request has been answered.
func (l *load) stop() {
	l.once.Do(func() { close(l.ended) })
	l.writing.Wait()
}

func (l *load) write(writer int) {
	customer := uuid.New()
	for n := int64(1); ; n++ {
		select {
		case <-l.ended:
			return
		case <-time.After(orderEvery):
		}
		placement := ordercheck.Placement{Customer: checker.ID(customer), Minor: n}
		l.ledger.OrderRequested(placement)
		body := fmt.Sprintf(`{"customer_id": %q, "amount": %d.%02d}`, customer, n/100, n%100)
		placed, ok := l.ask(writer, "/orders", body, http.StatusCreated)
		if !ok {
			return
		}
		id, err := checker.ParseID(placed.ID)
		if err != nil {
			l.t.Errorf("an order was placed without an id: %v", err)
			return
		}
		l.ledger.OrderAnswered(placement, id)
		l.ledger.OrderAcknowledged(id, placed.Version)
		if n%2 == 0 {
			continue
		}
		if paid, ok := l.ask(writer, "/orders/"+placed.ID+"/pay", "", http.StatusOK); ok {
			l.ledger.OrderAcknowledged(id, paid.Version)
		}
	}
}

type answer struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
}

// ask repeats a request until it was answered. Every try has the same key, so a later try gets the answer of the first try that had its effect.
func (l *load) ask(writer int, path, body string, want int) (got answer, ok bool) {
	key := uuid.NewString()
	for n := 0; ; n++ {
		status, text, err := l.try(l.apis[(writer+n)%len(l.apis)]+path, key, body)
		switch {
		case err == nil && (status == want):
			if err := json.Unmarshal(text, &got); err != nil {
				l.t.Errorf("POST %s was answered with %s", path, text)
				return answer{}, false
			}
			return got, true
		case err == nil && status < http.StatusInternalServerError:
			l.t.Errorf("POST %s was answered with %d: %s", path, status, text)
			return answer{}, false
		}
		l.retries.Add(1)
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *load) try(url, key, body string) (status int, text []byte, err error) {
	request, err := http.NewRequest(http.MethodPost, "http://"+url, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	response, err := l.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	var read bytes.Buffer
	_, err = read.ReadFrom(response.Body)
	return response.StatusCode, read.Bytes(), err
}
