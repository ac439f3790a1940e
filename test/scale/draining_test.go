//go:build scale

package scale_test

import (
	"fmt"
	"io"
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

// TestRollingRestartBehindAProxy checks that no request fails while the instances behind a HAProxy are restarted one by one, at about 500
// requests a second. The proxy repeats no request. The log has the figures.
func TestRollingRestartBehindAProxy(t *testing.T) {
	server, broker := infra.Postgres(t), infra.NATS(t).URL
	environment := []string{"DATABASE_URL=" + server.URL, "NATS_URL=" + broker, "HTTP_DRAIN=3s"}
	var backends []infra.Backend
	for range 3 {
		backends = append(backends, infra.Backend{
			API: fmt.Sprintf("127.0.0.1:%d", infra.Port(t)), Admin: fmt.Sprintf("127.0.0.1:%d", infra.Port(t)),
		})
	}
	serve := func(at infra.Backend, id string) *infra.Process {
		p := infra.Launch(t, append([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=" + at.API, "ADMIN_ADDR=" + at.Admin}, environment...), "serve")
		awaitReady(t, "http://"+at.Admin+"/readyz")
		return p
	}
	var instances []*infra.Process
	for i, backend := range backends {
		instances = append(instances, serve(backend, fmt.Sprintf("app%d", i+1)))
	}
	proxy := infra.HAProxy(t, backends...)
	require.Eventually(t, func() bool { _, err := infra.Place(proxy); return err == nil }, waitTimeout, 20*time.Millisecond)
	order, err := infra.Place(proxy)
	require.NoError(t, err)

	stop, result := keepRequesting(t, proxy, order.ID)
	handedOver := 0
	for i, backend := range backends {
		time.Sleep(time.Second)
		led := strings.Contains(instances[i].String(), "became leader")
		instances[i].Signal(syscall.SIGTERM)
		instances[i].WaitFor("draining")
		if led {
			instances[i].WaitFor("reason=resigned")
			resigned := time.Now()
			require.Zero(t, instances[i].Wait())
			require.Greater(t, time.Since(resigned), 500*time.Millisecond, "the leader resigns before it drains")
			handedOver++
		}
		require.Zero(t, instances[i].Wait())
		instances[i] = serve(backend, fmt.Sprintf("app%d-again", i+1))
	}
	time.Sleep(time.Second)
	stop()
	require.Positive(t, handedOver, "the leader was restarted")
	t.Logf("%d requests while three instances were restarted: %.0f a second, %d failed", result.sent.Load(), result.rate(), result.failed.Load())
	require.Zero(t, result.failed.Load(), "the first failure: %v", result.first.Load())
	require.Greater(t, result.rate(), 100.0, "too few requests to find a connection that is cut")
}

// awaitReady waits until an instance says that it is ready.
func awaitReady(t *testing.T, url string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err := http.Get(url)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, waitTimeout, 10*time.Millisecond, "%s does not get ready", url)
}

// requested counts requests.
type requested struct {
	began, ended time.Time
	sent, failed atomic.Int64
	first        atomic.Value // why the first request failed
}

func (r *requested) rate() float64 { return float64(r.sent.Load()) / r.ended.Sub(r.began).Seconds() }

// keepRequesting reads an order 400 times a second and places 100 orders a second through kept connections, until stop is called. An answer
// of 400 or above, and a request without an answer, has failed.
func keepRequesting(t *testing.T, address, id string) (stop func(), result *requested) {
	const workers, interval = 50, 100 * time.Millisecond
	result = &requested{began: time.Now()}
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	ended := make(chan struct{})
	var working sync.WaitGroup
	for worker := range workers {
		working.Go(func() {
			time.Sleep(interval * time.Duration(worker) / workers)
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				case <-tick.C:
				}
				result.sent.Add(1)
				if err := request(client, address, id, n%5 == 0); err != nil {
					result.failed.Add(1)
					result.first.CompareAndSwap(nil, err.Error())
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(ended)
		working.Wait()
		result.ended = time.Now()
		transport.CloseIdleConnections()
	})
	t.Cleanup(stop)
	return stop, result
}

func request(client *http.Client, address, id string, place bool) error {
	var answer *http.Response
	var err error
	if place {
		body := fmt.Sprintf(`{"customer_id": %q, "amount": 100.50}`, infra.Customer)
		answer, err = client.Post("http://"+address+"/orders", "application/json", strings.NewReader(body))
	} else {
		answer, err = client.Get("http://" + address + "/orders/" + id)
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s: %s", answer.Status, text)
	}
	return nil
}
