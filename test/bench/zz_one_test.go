package bench_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestZZOne(t *testing.T) {
	db, database := monitored(t)
	broker := infra.NATS(t).URL
	backlog := streamFiller(t, broker)(2000)
	connection := connectFloor(t, database)
	p, err := postgres.Open(postgres.Options{URL: database})
	require.NoError(t, err)
	hk := &hookZ{d: map[string][]time.Duration{}}
	p = p.WithQueryHook(hk)
	box := postgres.NewInbox(p, postgres.InboxOptions{})
	ctx := t.Context()
	require.NoError(t, box.Begin(ctx, "one", 1, "S", inbox.Place{}))
	view, err := box.Look(ctx, "one", "i")
	require.NoError(t, err)
	at := view.Lanes[0]
	h := subscribing.NewTotals("one", codec.New(nil), slog.New(slog.DiscardHandler))
	nc, err := jetstream.Connect(jetstream.Options{URL: broker, Name: "zz", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	reader, err := jetstream.NewReader(nc, jetstream.ReaderOptions{Stream: "ORDERS", Subscriber: "warm", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	var a, f, r, c []time.Duration
	now := time.Now()
	for i, e := range backlog {
		began := time.Now()
		out, err := box.Apply(ctx, "one", inbox.Batch{From: at, To: inbox.Place{Sequence: uint64(i + 1), StoredAt: now}, Events: []inbox.Event{{Entry: e, Sequence: uint64(i + 1)}}}, h, nil)
		require.NoError(t, err)
		a = append(a, time.Since(began))
		at = out.Checkpoint
		began = time.Now()
		require.NoError(t, applyOne(context.Background(), connection, int64(i)))
		f = append(f, time.Since(began))
		began = time.Now()
		_, err = reader.Read(ctx, 1999, inbox.ReadLimit{Count: 1000, Bytes: 2 << 20})
		require.NoError(t, err)
		r = append(r, time.Since(began))
		began = time.Now()
		_ = nc.Flush()
		c = append(c, time.Since(began))
	}
	for n, d := range map[string][]time.Duration{"apply": a, "floor": f, "read": r, "flush": c} {
		slices.Sort(d)
		fmt.Println(n, d[0], d[200], d[500], d[1000], d[1900])
	}
	for n, d := range hk.d {
		slices.Sort(d)
		fmt.Println("hook", n, len(d), d[0], d[len(d)/10], d[len(d)/4], d[len(d)/2])
	}
	rows, err := db.Query("SELECT calls, mean_exec_time, min_exec_time, mean_plan_time, min_plan_time, left(regexp_replace(query, '\\s+', ' ', 'g'), 90) FROM pg_stat_statements WHERE calls > 1000 ORDER BY total_exec_time DESC LIMIT 14")
	require.NoError(t, err)
	for rows.Next() {
		var n int
		var m, mi, pm, pmi float64
		var q string
		require.NoError(t, rows.Scan(&n, &m, &mi, &pm, &pmi, &q))
		fmt.Printf("%6d %7.3f (min %.3f) plan %.3f (min %.3f) %s\n", n, m, mi, pm, pmi, q)
	}
}

type hookZ struct{ d map[string][]time.Duration }

func (h *hookZ) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context { return ctx }
func (h *hookZ) AfterQuery(_ context.Context, e *bun.QueryEvent) {
	q := strings.Fields(e.Query)[0]
	h.d[q] = append(h.d[q], time.Since(e.StartTime))
}
