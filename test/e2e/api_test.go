package e2e_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/client"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// admin is a client of the admin listener.
func admin(t *testing.T, p *infra.Process) *client.ClientWithResponses {
	t.Helper()
	c, err := client.NewClientWithResponses("http://"+p.Says(`server="admin listener" addr=`),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+infra.AdminToken)
			return nil
		}))
	require.NoError(t, err)
	return c
}

// TestAnOrdersLife is what a client team does with the API.
func TestAnOrdersLife(t *testing.T) {
	instance := infra.Serve(t, "app", []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL})
	api := infra.At(instance.API())
	order, err := infra.Place(instance.API())
	require.NoError(t, err)

	key, first, stale := "pay-1", `"1"`, `"7"`
	reference := "P-2026-0042"
	payment := client.Payment{Reference: &reference}
	for range 2 { // sent again as it is
		paid, err := api.PayOrderWithResponse(t.Context(), order.ID, &client.PayOrderParams{IdempotencyKey: &key, IfMatch: &first}, payment)
		require.NoError(t, err)
		require.NotNil(t, paid.JSON200, "%s", paid.Body)
		require.Equal(t, `"2"`, paid.Headers200.ETag)
		require.Equal(t, reference, *paid.JSON200.PaymentReference)
	}
	reused, err := api.CancelOrderWithResponse(t.Context(), order.ID, &client.CancelOrderParams{IdempotencyKey: &key}, client.Cancellation{})
	require.NoError(t, err)
	require.Equal(t, client.ProblemCodeIdempotencyKeyReused, reused.ApplicationProblemJSON422.Code)
	late, err := api.ShipOrderWithResponse(t.Context(), order.ID, &client.ShipOrderParams{IfMatch: &stale}, client.Shipment{})
	require.NoError(t, err)
	require.Equal(t, client.ProblemCodeOrderVersion, late.ApplicationProblemJSON412.Code)

	carrier, tracking := "UPS", "1Z"
	shipped, err := api.ShipOrderWithResponse(t.Context(), order.ID, nil, client.Shipment{Carrier: &carrier, Tracking: &tracking})
	require.NoError(t, err)
	require.Equal(t, []string{carrier, tracking}, []string{*shipped.JSON200.Carrier, *shipped.JSON200.Tracking})
	refused, err := api.CancelOrderWithResponse(t.Context(), order.ID, nil, client.Cancellation{})
	require.NoError(t, err)
	require.Equal(t, client.ProblemCodeOrderStatus, refused.ApplicationProblemJSON409.Code)
	require.Equal(t, "cannot cancel an order that is shipped; it must be created or paid", refused.ApplicationProblemJSON409.Detail)
	require.Equal(t, *refused.ApplicationProblemJSON409.TraceID, refused.HTTPResponse.Header.Get("Trace-Id"))

	require.Eventually(t, func() bool {
		answer, err := api.ListOrderEventsWithResponse(t.Context(), order.ID)
		require.NoError(t, err)
		events := answer.JSON200.Events
		require.Len(t, events, 3)
		require.Equal(t, order.TraceID, *events[0].TraceID)
		return events[2].Delivery == client.OrderEventDeliveryPublished && *events[2].LagSeconds < 30
	}, patience, tick)
	require.Zero(t, instance.Stop(syscall.SIGTERM))
}

// TestListedOrdersAreStable reads all pages while orders are placed.
func TestListedOrdersAreStable(t *testing.T) {
	instance := infra.Serve(t, "app", []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL})
	api := instance.API()
	ids := make(map[string]bool)
	for range 25 {
		order, err := infra.Place(api)
		require.NoError(t, err)
		ids[order.ID] = true
	}
	limit, customer := 4, infra.Customer
	params := client.ListOrdersParams{Limit: &limit, CustomerID: &customer}
	var read []client.Order
	for {
		page, err := infra.At(api).ListOrdersWithResponse(t.Context(), &params)
		require.NoError(t, err)
		require.NotNil(t, page.JSON200, "%s", page.Body)
		read = append(read, page.JSON200.Orders...)
		if page.JSON200.Next == nil {
			break
		}
		params.Cursor = page.JSON200.Next
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

// TestWhereIsMyEvent follows an order's events through everything that can happen to them.
func TestWhereIsMyEvent(t *testing.T) {
	database, broker := infra.Database(t), infra.NATS(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker.URL, "OUTBOX_LEASE_TTL=1s"}
	instance := infra.Serve(t, "app", environment)
	desk := admin(t, instance)
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	events := func() []client.OrderEvent {
		answer, err := infra.At(instance.API()).ListOrderEventsWithResponse(t.Context(), order.ID)
		require.NoError(t, err)
		require.NotNil(t, answer.JSON200, "%s", answer.Body)
		return answer.JSON200.Events
	}
	stand := func(want ...client.OrderEventDelivery) {
		t.Helper()
		require.Eventually(t, func() bool {
			var got []client.OrderEventDelivery
			for _, event := range events() {
				got = append(got, event.Delivery)
			}
			return fmt.Sprint(got) == fmt.Sprint(want)
		}, patience, tick, "%v", want)
	}
	const published, parked, discarded, pending, passed = client.OrderEventDeliveryPublished, client.OrderEventDeliveryParked,
		client.OrderEventDeliveryDiscarded, client.OrderEventDeliveryPending, client.OrderEventDeliveryPassed
	stand(published)

	_, err = db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', $1, g, 'outboxie.order.paid.v1', 'orders.paid',
			CASE WHEN g = 2 THEN to_json(repeat('x', 1200000)) ELSE to_json(g) END
		FROM generate_series(2, 3) AS g`, order.ID)
	require.NoError(t, err)
	stand(published, parked, parked)
	require.Contains(t, *events()[1].Reason, "the broker takes at most")
	require.Contains(t, *events()[2].Reason, "behind position 2")

	lot, err := desk.ListParkedEventsWithResponse(t.Context(), nil)
	require.NoError(t, err)
	require.EqualValues(t, 2, lot.JSON200.Waiting)
	listed, err := desk.ListOutboxEventsWithResponse(t.Context(), &client.ListOutboxEventsParams{Aggregate: &order.ID})
	require.NoError(t, err)
	require.Len(t, *listed.JSON200, 3)
	_, err = infra.Outboxie(t, environment, "outbox", "discard", "--position", "2", "--yes")
	require.NoError(t, err)
	aggregate := "order/" + order.ID
	redriven, err := desk.RedriveEventsWithResponse(t.Context(), client.Redrive{Aggregate: &aggregate})
	require.NoError(t, err)
	require.Equal(t, 1, redriven.JSON200.Redriven)
	stand(published, discarded, published)
	again, err := desk.RedriveEventsWithResponse(t.Context(), client.Redrive{Aggregate: &aggregate})
	require.NoError(t, err)
	require.Equal(t, client.ProblemCodeNotParked, again.ApplicationProblemJSON404.Code)

	broker.Stop()
	order, err = infra.Place(instance.API())
	require.NoError(t, err, "orders do not wait for the broker")
	stand(pending)
	broker.Start()
	stand(published)
	require.Eventually(t, func() bool {
		status, err := desk.OutboxStatusWithResponse(t.Context())
		require.NoError(t, err)
		return status.JSON200.State == client.OutboxStatusStateRelaying && status.JSON200.Unpublished == 0
	}, patience, tick)
	broker.Stop()
	stand(passed)
	broker.Start()
	stand(published)
}
