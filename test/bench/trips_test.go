package bench_test

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// measureTrips posts orders one at a time while the database is 2 ms away, and counts in round trips of SELECT 1 on the same way.
func measureTrips(t *testing.T, size scale) []figure {
	t.Helper()
	server, broker := infra.Postgres(t), infra.NATS(t)
	parsed, err := url.Parse(server.URL)
	require.NoError(t, err)
	proxy := infra.NewProxy(t, parsed.Host)
	away := proxy.URL(t, server.URL)
	instance := launch(t, away, broker.URL, nil, "api")
	post(t, instance.API(), time.Second) // connects it to Postgres
	proxy.Delay(time.Millisecond)

	db, err := sql.Open("pgx", away)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1)
	client := &http.Client{Timeout: waitTimeout}
	t.Cleanup(client.CloseIdleConnections)
	place := func(key string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+instance.API()+"/orders",
			strings.NewReader(`{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 100.50}`))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		if key != "" {
			request.Header.Set("Idempotency-Key", key)
		}
		answer, err := client.Do(request)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusCreated, answer.StatusCode)
	}
	var trip, plain, keyed []float64
	for range size.warmUp + size.lone {
		trip = append(trip, took(func() {
			_, err := db.ExecContext(t.Context(), "SELECT 1")
			require.NoError(t, err)
		}))
		plain = append(plain, took(func() { place("") }))
		keyed = append(keyed, took(func() { place(rand.Text()) }))
	}
	floor := median(trip[size.warmUp:])
	floorText := fmt.Sprintf("SELECT 1 on the same way: p50 %.1f ms", floor)
	in := func(name string, measured []float64, goal float64) figure {
		p50 := median(measured[size.warmUp:])
		return figure{
			name: name, measured: fmt.Sprintf("p50 %.1f ms", p50), floor: floorText, ratio: p50 / floor, unit: " trips", goal: goal, upperBound: true,
		}
	}
	return []figure{
		in("POST /orders, the database 2 ms away, one at a time", plain, 2.2),
		in("the same with an Idempotency-Key", keyed, 0),
	}
}

func took(do func()) float64 {
	began := time.Now()
	do()
	return float64(time.Since(began).Microseconds()) / 1000
}
