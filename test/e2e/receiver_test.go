package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// posted is one request that a webhook got.
type posted struct {
	id, key, kind, aggregate, trace string
	version                         int
	body                            string
	at                              time.Time
}

// receiver is an HTTP server to which events are posted.
type receiver struct {
	address string
	close   func()

	mu       sync.Mutex
	requests []posted
	// answer decides about a request, after it was noted. The request ends when the function returns.
	answer func(r *http.Request, got posted) int
}

// receive starts a receiver that takes everything.
func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{answer: func(*http.Request, posted) int { return http.StatusOK }}
	server := httptest.NewServer(r)
	r.address, r.close = server.URL+"/events", sync.OnceFunc(func() {
		server.CloseClientConnections()
		server.Close()
	})
	t.Cleanup(r.close)
	return r
}

// ServeHTTP notes the request.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	header := request.Header.Get
	version, _ := strconv.Atoi(header("ce-aggregateversion"))
	got := posted{
		id: header("ce-id"), key: header("Idempotency-Key"), kind: header("ce-type"), version: version, body: string(body), at: time.Now(),
		aggregate: header("ce-aggregatetype") + "/" + header("ce-subject"), trace: header("traceparent"),
	}
	r.mu.Lock()
	r.requests = append(r.requests, got)
	answer := r.answer
	r.mu.Unlock()
	w.WriteHeader(answer(request, got))
}

// behave changes how the receiver answers.
func (r *receiver) behave(answer func(r *http.Request, got posted) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// all returns the requests so far.
func (r *receiver) all() []posted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// of returns the requests for a version of an aggregate.
func (r *receiver) of(aggregate string, version int) (found []posted) {
	for _, got := range r.all() {
		if got.aggregate == aggregate && got.version == version {
			found = append(found, got)
		}
	}
	return found
}

// requireFirstCallsInOrder requires that the first call for each event came after the first call for the one before it in its aggregate, and
// that repeated calls have the same key and the same content. It returns how many events were called for, and how many calls repeated one.
func (r *receiver) requireFirstCallsInOrder(t *testing.T) (events, repeated int) {
	t.Helper()
	first, last := make(map[string]posted), make(map[string]int)
	for _, got := range r.all() {
		require.Equal(t, got.id, got.key)
		before, known := first[got.id]
		if known {
			repeated++
			require.Equal(t, before.body, got.body)
			require.Equal(t, before.version, got.version)
			continue
		}
		first[got.id] = got
		require.Equal(t, last[got.aggregate]+1, got.version, "%s", got.aggregate)
		last[got.aggregate]++
	}
	return len(first), repeated
}
