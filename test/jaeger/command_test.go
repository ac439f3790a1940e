//go:build jaeger

package jaeger_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestSampling checks that a sampling ratio decides for whole orders, batches included, and that `outboxie trace` says why an order has no
// trace.
func TestSampling(t *testing.T) {
	s := start(t)
	settings := s.environment(infra.NATS(t).URL, "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0", "HTTP_TRUST_TRACEPARENT=true")
	app := infra.Serve(t, "app1", settings)
	subscriber := infra.Launch(t, settings, "subscribe", "--id", "emails")
	subscriber.WaitFor("subscribed")
	unseen, err := infra.Place(app.API())
	require.NoError(t, err)
	subscriber.WaitFor("order_id=" + unseen.ID)
	parent := strings.ReplaceAll(uuid.NewString(), "-", "")
	seen, err := infra.Place(app.API(), "traceparent: 00-"+parent+"-b7ad6b7169203331-01")
	require.NoError(t, err)
	require.Equal(t, parent, seen.TraceID)
	trace := s.await(parent, func(spans []infra.Span) bool { return infra.Delivered(spans, 1) })
	linked, err := s.Linked(t.Context(), trace)
	require.NoError(t, err)
	require.Len(t, linked, 1, "the batch is sampled because the order is")

	traced, err := s.Find(t.Context(), "messaging.system", "nats", s.began)
	require.NoError(t, err)
	require.Len(t, traced, 2, "that order, and the batch that carried it")
	for why, id := range map[string]string{
		"no trace of them was sampled (OTEL_TRACES_SAMPLER)": unseen.ID,
		"the outbox has no event of it":                      uuid.Must(uuid.NewV7()).String(),
	} {
		_, err = infra.Outboxie(t, settings, "trace", id)
		require.ErrorContains(t, err, why)
	}
}

// TestPlayground checks that `playground run` finds a Jaeger on this machine, sends traces to it without an OTLP setting, and logs a link to the
// trace of each change of an order.
func TestPlayground(t *testing.T) {
	s := start(t)
	data, err := os.MkdirTemp("", "outboxie-playground-") //nolint:usetesting // its parent is closed to other users
	require.NoError(t, err)
	require.NoError(t, os.Chmod(data, 0o755)) //nolint:gosec // Postgres runs as another user when root runs the test
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(data)) })
	played := infra.LaunchPlayground(t, []string{"JAEGER_URL=" + s.url, "OTEL_BSP_SCHEDULE_DELAY=50"},
		"run", "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data-dir", data)
	played.WaitFor("Ctrl-C stops everything")
	require.Contains(t, played.String(), "  traces       at "+s.url+"; the log has a link")

	order, err := infra.Place(played.API())
	require.NoError(t, err)
	require.Equal(t, "trace="+s.url+"/trace/"+order.TraceID, played.WaitFor("order created order_id="+order.ID))
	paid, err := infra.Transition(played.API(), order.ID, "pay")
	require.NoError(t, err)
	require.Equal(t, "trace="+s.url+"/trace/"+paid.TraceID, played.WaitFor("order paid order_id="+order.ID))
	_, err = infra.Read(played.API(), order.ID)
	require.NoError(t, err)

	s.await(order.TraceID, func(spans []infra.Span) bool { return infra.Delivered(spans, 1) })
	s.await(paid.TraceID, func(spans []infra.Span) bool { return len(infra.Named(spans, "process orders.paid")) == 1 })
	said, err := infra.Outboxie(t, []string{"JAEGER_URL=" + s.url}, "trace", order.ID)
	require.NoError(t, err)
	require.Contains(t, said, "process orders.created (subscriber-1)")
	require.Contains(t, said, "process orders.paid (subscriber-1)")
	require.NotContains(t, said, "GET ", "a trace for each event, and no others")
	require.Zero(t, played.Stop(syscall.SIGINT))
}
