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
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestModule(t *testing.T) {
	var db *bun.DB
	var log ports.Log
	var cursors ports.CursorStore
	var elector ports.Elector
	var work ordering.UnitOfWork
	var once inbox.UnitOfWork
	app := fxtest.New(t, postgres.Module, fx.NopLogger,
		fx.Supply(
			postgres.Options{URL: infra.Database(t), MaxOpenConns: 1},
			postgres.RelayOptions{Name: "ORDERS", Stream: "ORDERS", Holder: "instance-1", LeaseTTL: time.Minute},
			slog.New(slog.DiscardHandler),
		),
		fx.Populate(&db, &log, &cursors, &elector, &work, &once),
	)
	app.RequireStart()

	busy, err := db.Conn(t.Context()) // all of the main pool
	require.NoError(t, err)
	term, err := elector.Acquire(t.Context(), 0)
	require.NoError(t, err)
	require.NoError(t, busy.Close())

	page, err := log.After(t.Context(), outbox.Progress{}, plenty)
	require.NoError(t, err)
	require.Empty(t, page.Entries)
	want := outbox.Cursor{StreamCreated: "x", StreamSequence: 1}
	_, err = cursors.Save(t.Context(), outbox.Turn{Token: term.Token}, want)
	require.NoError(t, err, "the cursor is fenced by the elector's lease")

	nothing := func(context.Context, ordering.Tx) error { return nil }
	require.NoError(t, work.Do(t.Context(), nothing))
	message := outboxtest.NewMessage("a", 1)
	applied, err := once.Once(t.Context(), "subscriber", outbox.Entry{Message: message, Position: 1},
		func(context.Context, inbox.Tx) error { return nil })
	require.NoError(t, err)
	require.True(t, applied)

	app.RequireStop()
	require.Error(t, db.PingContext(t.Context()), "closed")
	_, err = elector.Acquire(t.Context(), 0)
	require.Error(t, err, "closed")
}
