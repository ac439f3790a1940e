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
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// BenchmarkRedeliver applies letters of one aggregate with the sample effect, after the dead letter before them was retried.
// Compare it with BenchmarkApply. One operation is one letter: -benchtime=5000x makes 5,000 letters.
func BenchmarkRedeliver(b *testing.B) {
	customers := make([]value.CustomerID, 20_000)
	for i := range customers {
		customers[i] = newCustomer()
	}
	add := handlerFunc(func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		return postgres.NewTotals().Add(ctx, tx, customers[int(entry.Position)*7919%len(customers)], value.NewMoney(10050, "USD"))
	})
	for _, r := range []inbox.Redelivery{{Limit: 1}, {Limit: 100}, {Limit: 500}, {Limit: 500, Savepoints: true}} {
		b.Run(fmt.Sprintf("limit=%d/careful=%v", r.Limit, r.Savepoints), func(b *testing.B) {
			db, err := postgres.Open(postgres.Options{URL: infra.Database(b)})
			require.NoError(b, err)
			defer func() { _ = db.Close() }()
			in := newInbox(db)
			prepareLetters(b, in, b.N)
			before := cpu(b)
			b.ResetTimer()
			for done := 0; done < b.N; {
				redelivered, found, err := in.Redeliver(b.Context(), emails, r, add, giveUp)
				require.NoError(b, err)
				require.True(b, found)
				done += len(redelivered.Applied)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "letters/s")
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// prepareLetters makes n letters of one aggregate. The first one is due.
func prepareLetters(b *testing.B, in *postgres.Inbox, n int) {
	b.Helper()
	require.NoError(b, in.CreateLanes(b.Context(), emails, 1, "STREAM", inbox.StreamPosition{}))
	view, err := in.Heartbeat(b.Context(), emails, "me")
	require.NoError(b, err)
	at := view.Lanes[0]
	fails := handlerFunc(func(context.Context, inbox.Tx, outbox.Entry) error { return errNo })
	for done := 0; done < n; {
		events := make([]inbox.Event, min(500, n-done))
		for i := range events {
			events[i] = eventOf(uint64(done+i)+1, "hot")
		}
		events[0].Suspect = true
		outcome, err := in.Apply(b.Context(), emails, batchOf(at, events...), fails, giveUp)
		require.NoError(b, err)
		at = outcome.Checkpoint
		done += len(events)
	}
	retried, err := inboxtest.RetryAll(b.Context(), in, emails)
	require.NoError(b, err)
	require.Equal(b, 1, retried)
}
