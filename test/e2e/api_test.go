package e2e_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// admin returns a client of the admin listener.
func admin(p *infra.Process) infra.Client {
	return infra.Client{Address: p.WaitFor(`server="admin listener" addr=`), Token: infra.AdminToken}
}

// requireProblem checks that a call was refused with a status and a code.
func requireProblem(t *testing.T, err error, status int, code string) *infra.Problem {
	t.Helper()
	var problem *infra.Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, status, problem.Status)
	require.Equal(t, code, problem.Code)
	return problem
}

// TestAnOrdersLife checks that the API does what a client needs: an order is placed, paid twice with one key, and shipped, each refusal names
// its reason, and the order's events are listed.
func TestAnOrdersLife(t *testing.T) {
	instance := infra.Serve(t, "app", []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL})
	api := infra.Client{Address: instance.API()}
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	change := func(verb, body string, headers ...string) (changed infra.Order, etag string, err error) {
		header, err := api.Call(t.Context(), http.MethodPost, "/orders/"+order.ID+"/"+verb, body, &changed, headers...)
		return changed, header.Get("ETag"), err
	}

	const reference = "P-2026-0042"
	for range 2 { // sent again as it is
		paid, etag, err := change("pay", `{"reference": "`+reference+`"}`, "Idempotency-Key: pay-1", `If-Match: "1"`)
		require.NoError(t, err)
		require.Equal(t, `"2"`, etag)
		require.Equal(t, reference, paid.PaymentReference)
	}
	_, _, err = change("cancel", "{}", "Idempotency-Key: pay-1")
	_ = requireProblem(t, err, http.StatusUnprocessableEntity, "idempotency_key_reused")
	_, _, err = change("ship", "{}", `If-Match: "7"`)
	_ = requireProblem(t, err, http.StatusPreconditionFailed, "order_version")

	shipped, _, err := change("ship", `{"carrier": "UPS", "tracking": "1Z"}`)
	require.NoError(t, err)
	require.Equal(t, []string{"UPS", "1Z"}, []string{shipped.Carrier, shipped.Tracking})
	_, _, err = change("cancel", "{}")
	refused := requireProblem(t, err, http.StatusConflict, "order_status")
	require.Equal(t, "cannot cancel an order that is shipped; it must be created or paid", refused.Detail)
	require.NotEmpty(t, refused.TraceID)
	require.Equal(t, refused.TraceID, refused.Header.Get("Trace-Id"))

	require.Eventually(t, func() bool {
		events, err := api.OrderEvents(t.Context(), order.ID)
		require.NoError(t, err)
		require.Len(t, events, 3)
		require.Equal(t, order.TraceID, events[0].TraceID)
		return events[2].Delivery == "published" && *events[2].LagSeconds < 30
	}, waitTimeout, tick)
	require.Zero(t, instance.Stop(syscall.SIGTERM))
}

// TestListedOrdersAreStable checks that every order is on exactly one page, although orders are placed while the pages are read.
func TestListedOrdersAreStable(t *testing.T) {
	instance := infra.Serve(t, "app", []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL})
	api := instance.API()
	ids := make(map[string]bool)
	for range 25 {
		order, err := infra.Place(api)
		require.NoError(t, err)
		ids[order.ID] = true
	}
	query := url.Values{"limit": {"4"}, "customer_id": {infra.Customer}}
	var read []infra.Order
	for {
		var page struct {
			Orders []infra.Order
			Next   string
		}
		_, err := infra.Client{Address: api}.Call(t.Context(), http.MethodGet, "/orders?"+query.Encode(), "", &page)
		require.NoError(t, err)
		read = append(read, page.Orders...)
		if page.Next == "" {
			break
		}
		query.Set("cursor", page.Next)
		_, err = infra.Place(api)
		require.NoError(t, err)
	}
	require.Len(t, read, len(ids))
	for i, order := range read {
		require.True(t, ids[order.ID], "placed meanwhile, or read twice")
		delete(ids, order.ID)
		require.False(t, i > 0 && order.CreatedAt.After(read[i-1].CreatedAt), "newest first")
	}
}

// eventsOf returns the events of an order, as the API lists them.
func eventsOf(t *testing.T, api, order string) []infra.OrderEvent {
	t.Helper()
	listed, err := infra.Client{Address: api}.OrderEvents(t.Context(), order)
	require.NoError(t, err)
	return listed
}

// awaitDelivery waits until the events of an order are delivered as wanted, in the order of their versions.
func awaitDelivery(t *testing.T, api, order string, want ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var got []string
		for _, event := range eventsOf(t, api, order) {
			got = append(got, event.Delivery)
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	}, waitTimeout, tick, "%v", want)
}

// requireCaughtUp waits until the relay has published everything.
func requireCaughtUp(t *testing.T, outbox infra.Client) {
	t.Helper()
	require.Eventually(t, func() bool {
		var status struct {
			State       string
			Unpublished *int
		}
		_, err := outbox.Call(t.Context(), http.MethodGet, "/outbox/status", "", &status)
		require.NoError(t, err)
		return status.State == "relaying" && status.Unpublished != nil && *status.Unpublished == 0
	}, waitTimeout, tick)
}

// TestWhereIsMyEvent checks that the API reports for each event of an order whether it is published, pending, parked, discarded or passed.
func TestWhereIsMyEvent(t *testing.T) {
	database, broker := infra.Database(t), infra.NATS(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker.URL, "OUTBOX_LEASE_TTL=1s"}
	instance := infra.Serve(t, "app", environment)
	outbox := admin(instance)
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	eventually := func(want ...string) {
		t.Helper()
		awaitDelivery(t, instance.API(), order.ID, want...)
	}
	const published, parked, discarded, pending, passed = "published", "parked", "discarded", "pending", "passed"
	eventually(published)

	_, err = db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', $1, g, 'outboxie.order.paid.v1', 'orders.paid',
			CASE WHEN g = 2 THEN to_json(repeat('x', 1200000)) ELSE to_json(g) END
		FROM generate_series(2, 3) AS g`, order.ID)
	require.NoError(t, err)
	eventually(published, parked, parked)
	events := eventsOf(t, instance.API(), order.ID)
	require.Contains(t, events[1].Reason, "the broker takes at most")
	require.Contains(t, events[2].Reason, "behind position 2")

	var parkingLot struct{ Waiting int }
	_, err = outbox.Call(t.Context(), http.MethodGet, "/outbox/parked", "", &parkingLot)
	require.NoError(t, err)
	require.Equal(t, 2, parkingLot.Waiting)
	var listed []json.RawMessage
	_, err = outbox.Call(t.Context(), http.MethodGet, "/outbox/events?aggregate="+order.ID, "", &listed)
	require.NoError(t, err)
	require.Len(t, listed, 3)
	_, err = infra.Outboxie(t, environment, "outbox", "discard", "--position", "2", "--yes")
	require.NoError(t, err)
	redrive := func() (redriven struct{ Redriven int }, err error) {
		_, err = outbox.Call(t.Context(), http.MethodPost, "/outbox/redrive", `{"aggregate": "order/`+order.ID+`"}`, &redriven)
		return redriven, err
	}
	redriven, err := redrive()
	require.NoError(t, err)
	require.Equal(t, 1, redriven.Redriven)
	eventually(published, discarded, published)
	_, err = redrive()
	_ = requireProblem(t, err, http.StatusNotFound, "not_parked")

	broker.Stop()
	order, err = infra.Place(instance.API())
	require.NoError(t, err, "orders do not wait for the broker")
	eventually(pending)
	broker.Start()
	eventually(published)
	requireCaughtUp(t, outbox)
	broker.Stop()
	eventually(passed)
	broker.Start()
	eventually(published)
}
