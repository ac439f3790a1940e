package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// subscribe starts a copy of a subscriber with a handler.
func (s *subscription) subscribe(id, handler string, more ...string) *infra.Process {
	s.t.Helper()
	p := infra.Launch(s.t, append(append([]string{}, s.environment...), more...), "subscribe", "--id", id, "--handler", handler)
	return p
}

// keepBuying places orders and pays them, and cancels every second one, in several goroutines until stop is called.
func (s *subscription) keepBuying() (stop func()) {
	s.t.Helper()
	var hands sync.WaitGroup
	ended := make(chan struct{})
	for range 2 {
		hands.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
				}
				order, err := infra.Place(s.api)
				if err == nil {
					_, err = infra.Transition(s.api, order.ID, "pay")
				}
				if err == nil && n%2 == 0 {
					_, err = infra.Transition(s.api, order.ID, "cancel")
				}
				if err != nil {
					s.t.Errorf("order: %v", err)
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return sync.OnceFunc(func() {
		close(ended)
		hands.Wait()
	})
}

const (
	fulfillments = "SELECT count(*) FROM outbox WHERE aggregate_type = 'fulfillment'"
	everything   = "SELECT count(*) FROM outbox"
)

// TestTwoHops checks that a chain of two subscribers keeps its promises while both are killed with kill -9. The first one emits fulfillment
// events for paid and cancelled orders. The second one posts all events to a webhook. Each event is emitted once, stands in the stream in the
// order of its aggregate, and takes effect once for the second subscriber. The webhook gets the events of an aggregate in order. Repeated calls
// have the same key.
func TestTwoHops(t *testing.T) {
	hook := receive(t)
	hook.behave(func(*http.Request, posted) int {
		time.Sleep(2 * time.Millisecond)
		return http.StatusOK
	})
	s := newSubscription(t, "LOG_LEVEL=info", "SUBSCRIBER_LANES=4", "SUBSCRIBER_IDLE_TIMEOUT=2s", "WEBHOOK_URL="+hook.address)
	handlers := map[string]string{"warehouse": "fulfillment", "shop": "webhook"}
	copies := make(map[string]*infra.Process)
	for id, handler := range handlers {
		for n := range 2 {
			copies[fmt.Sprint(id, n)] = s.subscribe(id, handler, fmt.Sprintf("INSTANCE_ID=%s%d", id, n))
		}
	}
	stop := s.keepBuying()
	defer stop()
	for round := range 4 {
		for id, handler := range handlers {
			s.eventually("SELECT (count(*) > 10)::int FROM outbox WHERE aggregate_type = 'fulfillment' AND recorded_at > now() - interval '2 s'", 1)
			name := fmt.Sprint(id, round%2)
			copies[name].Kill()
			copies[name] = s.subscribe(id, handler, "INSTANCE_ID="+name)
		}
	}
	stop()

	s.eventually("SELECT count(*) FROM outbox WHERE event_type IN ('outboxie.order.paid.v1') AND aggregate_id NOT IN (SELECT aggregate_id FROM outbox WHERE event_type = 'outboxie.fulfillment.requested.v1')", 0)
	s.eventually("SELECT count(*) FROM outbox WHERE event_type IN ('outboxie.order.cancelled.v1') AND aggregate_id NOT IN (SELECT aggregate_id FROM outbox WHERE event_type = 'outboxie.fulfillment.withdrawn.v1')", 0)
	for _, kinds := range [][2]string{{"outboxie.order.paid.v1", "outboxie.fulfillment.requested.v1"}, {"outboxie.order.cancelled.v1", "outboxie.fulfillment.withdrawn.v1"}} {
		want := count(t, s.db, "SELECT count(*) FROM outbox WHERE event_type = '"+kinds[0]+"'")
		require.Positive(t, want)
		require.Equal(t, want, count(t, s.db, "SELECT count(*) FROM outbox WHERE event_type = '"+kinds[1]+"'"), kinds[1])
	}
	s.eventually("SELECT count(*) FROM inbox WHERE subscriber = 'shop' AND applied_at IS NOT NULL", count(t, s.db, everything))
	requireStream(t, s.db, s.broker.URL, "ORDERS")
	require.Zero(t, count(t, s.db, `SELECT count(*) FROM (SELECT aggregate_version, row_number() OVER (PARTITION BY aggregate_type, aggregate_id ORDER BY position) AS place
		FROM outbox) AS o WHERE aggregate_version <> place`), "in order within each aggregate, without a gap")
	require.Zero(t, count(t, s.db, "SELECT count(*) FROM dead_letters"))
	events, repeated := hook.requireFirstCallsInOrder(t)
	require.Equal(t, count(t, s.db, everything), events)
	t.Logf("%d events, of which %d were emitted; %d calls were repeated", events, count(t, s.db, fulfillments), repeated)
}

// TestOneTraceOverTwoHops checks that one trace has the payment of an order, the event that a subscriber emits for it, and the next subscriber's
// handling of this event. Each span is below the span that caused it. The webhook gets the trace, too.
func TestOneTraceOverTwoHops(t *testing.T) {
	hook := receive(t)
	collector := infra.Collector(t)
	environment := append(collector.Environment(), "DATABASE_URL="+infra.Database(t), "NATS_URL="+infra.Broker(t), "WEBHOOK_URL="+hook.address)
	instance := infra.Serve(t, "traced", environment)
	infra.Launch(t, environment, "subscribe", "--id", "warehouse", "--handler", "fulfillment").WaitFor("subscribed")
	infra.Launch(t, environment, "subscribe", "--id", "shop", "--handler", "webhook").WaitFor("subscribed")
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	paid, err := infra.Transition(instance.API(), order.ID, "pay")
	require.NoError(t, err)

	const created, processed = "create orders.fulfillment.requested", "process orders.fulfillment.requested"
	var spans []infra.Span
	require.True(t, collector.WaitFor(func(all []infra.Span) bool {
		spans = nil
		for _, span := range all {
			if span.TraceID == paid.TraceID {
				spans = append(spans, span)
			}
		}
		return len(infra.Named(spans, "outbox relay")) == 2 && len(infra.Named(spans, "process orders.paid")) == 2 && len(infra.Named(spans, processed)) == 1
	}, waitTimeout), "%+v", spans)
	create, process, by := infra.Only(t, spans, created), infra.Only(t, spans, processed), make(map[string]infra.Span)
	for _, span := range append(spans, process) {
		by[span.SpanID] = span
	}
	require.Equal(t, create.SpanID, process.ParentID)
	require.Equal(t, "shop", process.Attributes["messaging.consumer.group.name"])
	first := by[create.ParentID]
	require.Equal(t, "process orders.paid", first.Name)
	require.Equal(t, "warehouse", first.Attributes["messaging.consumer.group.name"])
	require.Equal(t, "create orders.paid", by[first.ParentID].Name)
	for _, wait := range infra.Named(spans, "outbox relay") {
		require.Contains(t, []string{create.SpanID, first.ParentID}, wait.ParentID)
	}
	calls := hook.of("fulfillment/"+order.ID, 1)
	require.Len(t, calls, 1)
	require.Equal(t, "00-"+paid.TraceID+"-"+process.SpanID+"-01", calls[0].trace)
	require.True(t, strings.HasPrefix(calls[0].body, `{"order_id":"`+order.ID))
}

// TestWebhookRepeatsAfterAKill checks that when a copy is killed between the call and the commit, another copy repeats the call with the
// same key, and only then calls for the order's next event.
func TestWebhookRepeatsAfterAKill(t *testing.T) {
	hook := receive(t)
	called, dead := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hook.behave(func(*http.Request, posted) int {
		once.Do(func() {
			close(called)
			<-dead
		})
		return http.StatusOK
	})
	s := newSubscription(t, "LOG_LEVEL=info", "WEBHOOK_URL="+hook.address)
	first := s.subscribe("shop", "webhook", "INSTANCE_ID=first")
	first.WaitFor("subscribed")
	order := s.order(infra.Customer)
	s.pay(order)
	<-called
	second := s.subscribe("shop", "webhook", "INSTANCE_ID=second")
	second.WaitFor("subscribed")
	first.Signal(syscall.SIGKILL)
	_ = first.Wait()
	close(dead)
	s.eventually("SELECT count(*) FROM inbox WHERE subscriber = 'shop' AND applied_at IS NOT NULL", 2)
	events, repeated := hook.requireFirstCallsInOrder(t)
	require.Equal(t, 2, events)
	require.Equal(t, 1, repeated)
	require.Len(t, hook.of("order/"+order.ID, 1), 2)
}

// webhookTroubles returns how a receiver treats the calls for an order, by name. A trouble returns the status of its answer.
func webhookTroubles() map[string]func(*http.Request) int {
	var failures atomic.Int64
	return map[string]func(*http.Request) int{
		"hangs": func(request *http.Request) int {
			<-request.Context().Done()
			return http.StatusOK
		},
		"fails": func(*http.Request) int {
			if failures.Add(1) < 3 {
				return http.StatusBadGateway
			}
			return http.StatusOK
		},
		"refuses": func(*http.Request) int { return http.StatusUnprocessableEntity },
		"slow": func(*http.Request) int {
			time.Sleep(200 * time.Millisecond)
			return http.StatusOK
		},
	}
}

// TestWebhookTroubles checks that a webhook that hangs, fails for a while, refuses or is slow for one order holds up only this order, on one
// lane. When an operator retries, the missing calls are made. A webhook that is gone leaves no dead letter.
func TestWebhookTroubles(t *testing.T) {
	hook := receive(t)
	s := newSubscription(t, "LOG_LEVEL=info", "SUBSCRIBER_IDLE_TIMEOUT=1s", "SUBSCRIBER_MAX_ATTEMPTS=3", "WEBHOOK_URL="+strings.Replace(hook.address, "http://", "http://me:hunter2@", 1))
	var mu sync.Mutex
	troubles := make(map[string]func(request *http.Request) int)
	hook.behave(func(request *http.Request, got posted) int {
		mu.Lock()
		trouble := troubles[got.aggregate]
		mu.Unlock()
		if trouble == nil {
			return http.StatusOK
		}
		return trouble(request)
	})
	shop := s.subscribe("shop", "webhook", "ADMIN_ADDR=127.0.0.1:0")
	shop.WaitFor("subscribed")
	orders := make(map[string]string)
	for name, trouble := range webhookTroubles() {
		// The first event of each order is delivered before its trouble begins.
		order := s.order(infra.Customer)
		orders[name] = "order/" + order.ID
		s.eventually("SELECT count(*) FROM inbox WHERE subscriber = 'shop' AND applied_at IS NOT NULL", len(orders))
		mu.Lock()
		troubles[orders[name]] = trouble
		mu.Unlock()
	}
	for _, order := range orders {
		for _, verb := range []string{"pay", "ship"} {
			_, err := infra.Transition(s.api, strings.TrimPrefix(order, "order/"), verb)
			require.NoError(t, err)
		}
	}
	well := s.order(infra.Customer)
	// 4 + 1 created, and two more of each order whose trouble ends: it fails for a while, or is slow.
	s.eventually("SELECT count(*) FROM inbox WHERE subscriber = 'shop' AND applied_at IS NOT NULL", 9)
	s.eventually("SELECT count(*) FROM dead_letters WHERE subscriber = 'shop' AND state = 'dead'", 2)
	require.Len(t, hook.of("order/"+well.ID, 1), 1)
	require.Len(t, hook.of(orders["hangs"], 2), 3)
	require.Len(t, hook.of(orders["refuses"], 2), 1, "no retry can help")
	require.Len(t, hook.of(orders["fails"], 2), 3)
	for _, name := range []string{"hangs", "refuses"} {
		require.Empty(t, hook.of(orders[name], 3), "it waits before the call")
	}

	mu.Lock()
	clear(troubles)
	mu.Unlock()
	s.requireCommand(0, "retries 2 dead letters", "retry", "--id", "shop", "--all")
	s.eventually("SELECT count(*) FROM inbox WHERE subscriber = 'shop' AND applied_at IS NOT NULL", 13)
	hook.requireFirstCallsInOrder(t)

	hook.close()
	s.order(infra.Customer)
	shop.WaitFor("cannot handle events at the moment")
	require.Zero(t, count(t, s.db, "SELECT count(*) FROM dead_letters"), "an outage is no failure of the event")
	require.NotContains(t, shop.String(), "hunter2")
}
