package postgres_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/modules"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestModule(t *testing.T) {
	var db *bun.DB
	var log relay.Log
	var cursors relay.CursorStore
	var elector relay.Elector
	var work orders.UnitOfWork
	var checkpoints inbox.Checkpoints
	var apply inbox.UnitOfWork
	var letters inbox.DeadLetters
	var admin operations.DeadLetterAdmin
	var sweeper inbox.Sweeper
	var effects operations.EffectReader
	app := fxtest.New(t, modules.Postgres, fx.NopLogger,
		fx.Supply(
			postgres.Options{URL: infra.Database(t), MaxOpenConns: 1},
			postgres.RelayOptions{Name: "ORDERS", Stream: "ORDERS", Holder: "instance-1", LeaseTTL: time.Minute},
			slog.New(slog.DiscardHandler),
		),
		fx.Populate(&db, &log, &cursors, &elector, &work, &checkpoints, &apply, &letters, &admin, &sweeper, &effects),
	)
	app.RequireStart()

	busy, err := db.Conn(t.Context()) // takes all connections of the main pool
	require.NoError(t, err)
	term, err := elector.Acquire(t.Context(), 0)
	require.NoError(t, err)
	require.NoError(t, busy.Close())

	page, err := log.After(t.Context(), outbox.Progress{}, plenty)
	require.NoError(t, err)
	require.Empty(t, page.Entries)
	want := relay.Cursor{StreamCreated: "x", StreamSequence: 1}
	_, err = cursors.Save(t.Context(), relay.WriteFence{Token: term.Token}, want)
	require.NoError(t, err, "the cursor is fenced by the elector's lease")

	nothing := func(context.Context, orders.Tx) error { return nil }
	require.NoError(t, work.Do(t.Context(), nothing))
	require.NoError(t, checkpoints.CreateLanes(t.Context(), "subscriber", 1, "S", inbox.StreamPosition{}))
	view, err := checkpoints.Heartbeat(t.Context(), "subscriber", "me")
	require.NoError(t, err)
	_, err = apply.Apply(t.Context(), "subscriber", inbox.Batch{From: view.Lanes[0], To: inbox.StreamPosition{Sequence: 1}, Events: []inbox.Event{
		{Entry: entry(1), Sequence: 1},
	}}, ignore, giveUp)
	require.NoError(t, err)
	_, found, err := letters.Redeliver(t.Context(), "subscriber", inbox.Redelivery{Limit: 1}, ignore, giveUp)
	require.NoError(t, err)
	require.False(t, found)
	dead, err := admin.CountDead(t.Context(), "subscriber")
	require.NoError(t, err)
	require.Zero(t, dead)
	_, why, err := sweeper.Candidates(t.Context(), "subscriber", "S", time.Hour, 1)
	require.NoError(t, err)
	require.NotEmpty(t, why)
	seen, err := effects.Effects(t.Context(), []string{entry(1).ID})
	require.NoError(t, err)
	require.Len(t, seen, 1)

	app.RequireStop()
	require.Error(t, db.PingContext(t.Context()), "closed")
	_, err = elector.Acquire(t.Context(), 0)
	require.Error(t, err, "closed")
}
