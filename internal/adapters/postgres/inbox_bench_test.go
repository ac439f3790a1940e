package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// BenchmarkApply applies events with the sample effect, each of its own aggregate, for 20,000 customers. A batch of one is a
// lone event. One operation is one event.
func BenchmarkApply(b *testing.B) {
	customers := make([]value.CustomerID, 20_000)
	for i := range customers {
		customers[i] = newCustomer()
	}
	for _, size := range []int{1, 16, 100, 500} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) {
			db, err := postgres.Open(postgres.Options{URL: infra.Database(b)})
			require.NoError(b, err)
			defer func() { _ = db.Close() }()
			in := postgres.NewInbox(db, postgres.InboxOptions{})
			require.NoError(b, in.CreateLanes(b.Context(), emails, 1, "STREAM", inbox.StreamPosition{}))
			view, err := in.Heartbeat(b.Context(), emails, "me")
			require.NoError(b, err)
			at := view.Lanes[0]
			add := handlerFunc(func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
				return postgres.NewTotals().Add(ctx, tx, customers[int(entry.Position)*7919%len(customers)], value.NewMoney(10050, "USD"))
			})
			events := make([]inbox.Event, b.N)
			for i := range events {
				events[i] = eventOf(uint64(i)+1, fmt.Sprint("order-", i))
			}
			before := cpu(b)
			b.ResetTimer()
			for done := 0; done < b.N; done += size {
				outcome, err := in.Apply(b.Context(), emails, batchOf(at, events[done:min(done+size, b.N)]...), add, thrice)
				if err != nil {
					b.Fatal(err)
				}
				at = outcome.Checkpoint
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "effects/s")
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}
