package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// faultyInstances returns the handlers of instances by their names. They keep the ids of orders in made, by key.
func faultyInstances(made map[string]string) map[string]http.HandlerFunc {
	answer := func(w http.ResponseWriter, id string) {
		w.Header().Set("Trace-Id", "t")
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"id": %q}`, id)
	}
	return map[string]http.HandlerFunc{
		"good": func(w http.ResponseWriter, r *http.Request) {
			key := r.Header.Get("Idempotency-Key")
			if made[key] == "" {
				made[key] = uuid.NewString()
			}
			answer(w, made[key])
		},
		"loses": func(w http.ResponseWriter, r *http.Request) {
			made[r.Header.Get("Idempotency-Key")] = uuid.NewString()
			panic(http.ErrAbortHandler)
		},
		"down":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"forgets": func(w http.ResponseWriter, _ *http.Request) { answer(w, uuid.NewString()) },
		"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnprocessableEntity) },
	}
}

// TestClient checks that an order is placed once, although one instance loses its answers, one is down, and one has forgotten idempotency
// keys.
func TestClient(t *testing.T) {
	var mu sync.Mutex
	made := make(map[string]string) // by key
	var bodies []string
	handlers := faultyInstances(made)
	urls := make(map[string]string)
	for name, handler := range handlers {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || !json.Valid(body) {
				t.Errorf("%s: %s", err, body)
			}
			mu.Lock()
			defer mu.Unlock()
			if got := r.Header.Get("Authorization"); got != "Bearer a-token" {
				t.Errorf("%s got the token %q", name, got)
			}
			bodies = append(bodies, string(body))
			handler(w, r)
		}))
		t.Cleanup(server.Close)
		urls[name] = server.URL
	}
	c := newClient(func(instance string) string { return urls[instance] }, func() string { return "a-token" })
	orders := newCustomer()
	p := orders.next()
	order, err := c.place(t.Context(), p, "loses", "down", "good")
	require.NoError(t, err)
	require.Equal(t, placed{ID: made[p.key], traceID: "t", instance: "good"}, order)
	require.Equal(t, []string{bodies[0], bodies[0]}, bodies[1:])
	require.Len(t, made, 1)
	require.EqualValues(t, 1, c.accepted.Load())
	require.EqualValues(t, 2, c.again.Load())
	require.Equal(t, 1, c.ledger.Aggregates())

	require.NoError(t, c.confirm(t.Context(), p, order, "good"))
	err = c.confirm(t.Context(), p, order, "forgets")
	require.ErrorContains(t, err, "order "+order.ID+" was sent again with its Idempotency-Key, and forgets made another one of it, ")

	_, err = c.place(t.Context(), orders.next(), "refuses", "good")
	require.ErrorIs(t, err, errRefused)
	require.ErrorContains(t, err, "refuses answered 422")
	require.NotEqual(t, bodies[0], bodies[len(bodies)-1], "no two orders of a customer cost the same")
	require.Equal(t, 1, c.ledger.Aggregates())
	require.NotEqual(t, checker.ID{}, p.Customer)
}
