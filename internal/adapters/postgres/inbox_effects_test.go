package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

func newCustomer() value.CustomerID { return value.CustomerID(relaytest.NewMessage("", 1).ID) }

// withEffects runs fn in a transaction, and then writes the effects that fn collected.
func withEffects(ctx context.Context, h *harness, fn func(effects postgres.Effects) error) error {
	return h.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		effects := postgres.NewEffects(tx, "billing")
		defer effects.End()
		if err := fn(effects); err != nil {
			return err
		}
		return effects.Flush(ctx)
	})
}

// readTotals returns all rows of totals as text.
func readTotals(t *testing.T, h *harness) (totals []string) {
	t.Helper()
	require.NoError(t, h.others.NewRaw(`SELECT concat_ws(' ', subscriber, customer_id, currency, amount_minor + amount, orders)
		FROM customer_totals ORDER BY 1`).Scan(t.Context(), &totals))
	return totals
}

// TestEffectsAreWrittenAtOnce checks that effects are written only by the flush, all in one statement, and that sums do not
// overflow.
func TestEffectsAreWrittenAtOnce(t *testing.T) {
	h := newHarness(t)
	const one, two = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
	const most = int64(1<<63 - 1)
	ctx := t.Context()
	for range 2 {
		sent := &statements{}
		hooked := *h
		hooked.db = h.db.WithQueryHook(sent)
		require.NoError(t, withEffects(ctx, &hooked, func(effects postgres.Effects) error {
			tx := effects.Tx()
			for range 3 {
				require.NoError(t, postgres.NewTotals().Add(ctx, tx, two, value.NewMoney(most, "USD")))
			}
			require.NoError(t, postgres.NewTotals().Add(ctx, tx, one, value.NewMoney(5, "USD")))
			require.NoError(t, postgres.NewTotals().Add(ctx, tx, value.CustomerID("00000000-0000-4000-8000-00000000000A"), value.NewMoney(6, "USD")))
			require.NoError(t, postgres.NewTotals().Add(ctx, tx, one, value.NewMoney(7, "JPY")))
			require.Equal(t, []string{"BEGIN"}, sent.operations)
			return nil
		}))
		require.Equal(t, []string{"BEGIN", "INSERT", "COMMIT"}, sent.operations)
	}
	require.Equal(t, []string{
		"billing " + one + " JPY 14 2", "billing " + one + " USD 22 4", "billing " + two + " USD 55340232221128654842 6",
	}, readTotals(t, h))

	require.NoError(t, withEffects(ctx, h, func(effects postgres.Effects) error {
		require.NoError(t, postgres.NewTotals().Add(ctx, effects.Tx(), two, value.NewMoney(most, "USD")))
		require.NoError(t, effects.Flush(ctx))
		require.NoError(t, postgres.NewTotals().Add(ctx, effects.Tx(), one, value.NewMoney(1, "USD")))
		require.NoError(t, effects.Flush(ctx))
		return effects.Flush(ctx)
	}))
	require.Equal(t, []string{
		"billing " + one + " JPY 14 2", "billing " + one + " USD 23 5", "billing " + two + " USD 64563604257983430649 7",
	}, readTotals(t, h))
}

// TestEffectsEnd checks that a Tx refuses calls after its end, even from a handler that still runs in another goroutine.
func TestEffectsEnd(t *testing.T) {
	h := newHarness(t)
	ctx, customer := t.Context(), newCustomer()
	var left inbox.Tx
	require.NoError(t, withEffects(ctx, h, func(effects postgres.Effects) error {
		left = effects.Tx()
		require.NoError(t, postgres.NewTotals().Add(ctx, left, customer, value.NewMoney(1, "USD")))
		effects.End()
		require.ErrorIs(t, postgres.NewTotals().Add(ctx, left, customer, value.NewMoney(1, "USD")), sql.ErrTxDone)
		return nil
	}))
	require.Empty(t, readTotals(t, h), "what was not written is dropped")

	var beside sync.WaitGroup
	require.NoError(t, withEffects(ctx, h, func(effects postgres.Effects) error {
		left = effects.Tx()
		beside.Go(func() {
			for postgres.NewTotals().Add(ctx, left, customer, value.NewMoney(1, "USD")) == nil {
			}
		})
		return nil
	}))
	beside.Wait()
}

// TestEffectsDoNotDeadlock checks that transactions that collect the same rows in different orders do not deadlock.
func TestEffectsDoNotDeadlock(t *testing.T) {
	h := newHarness(t)
	const writers, rounds, events = 4, 25, 20
	customers := make([]value.CustomerID, events)
	for i := range customers {
		customers[i] = newCustomer()
	}
	var all sync.WaitGroup
	for writer := range writers {
		all.Go(func() {
			for round := range rounds {
				err := withEffects(t.Context(), h, func(effects postgres.Effects) error {
					for i := range events {
						customer := customers[(i*(2*writer+1)+round)%events]
						if err := postgres.NewTotals().Add(t.Context(), effects.Tx(), customer, value.NewMoney(1, "USD")); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, writers*rounds*events, count(t, h, "SELECT sum(orders)::int FROM customer_totals"))
}

// TestEffectsFailures checks how failures to write the effects are classified.
func TestEffectsFailures(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	add := func(customers ...value.CustomerID) error {
		return withEffects(ctx, h, func(effects postgres.Effects) error {
			for _, customer := range customers {
				require.NoError(t, postgres.NewTotals().Add(ctx, effects.Tx(), customer, value.NewMoney(1, "USD")))
			}
			return nil
		})
	}
	for _, customers := range [][]value.CustomerID{{"not a UUID"}, {newCustomer(), "not a UUID"}} {
		require.ErrorIs(t, add(customers...), inbox.ErrPermanent, "class 22")
	}
	exec(t, h.others, "ALTER TABLE customer_totals ADD CONSTRAINT few CHECK (orders < 2)")
	customer := newCustomer()
	require.NoError(t, add(customer))
	require.ErrorIs(t, add(customer), inbox.ErrPermanent, "23514")
	require.Len(t, readTotals(t, h), 1)

	ended, end := context.WithCancel(ctx)
	err := withEffects(ctx, h, func(effects postgres.Effects) error {
		require.NoError(t, postgres.NewTotals().Add(ctx, effects.Tx(), "not a UUID", value.NewMoney(1, "USD")))
		end()
		return effects.Flush(ended)
	})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, inbox.Permanent(err))
}

// foreign is a transaction of another adapter.
type foreign struct{}

func (foreign) Subscriber() string { return "billing" }

// TestTotalsNeedATransactionOfPostgres checks that Totals refuses a transaction of another adapter.
func TestTotalsNeedATransactionOfPostgres(t *testing.T) {
	for _, tx := range []inbox.Tx{foreign{}, nil} {
		require.ErrorContains(t, postgres.NewTotals().Add(t.Context(), tx, newCustomer(), value.NewMoney(1, "USD")), "not one of Postgres")
	}
}

// handlerFunc is a handler that is a function.
type handlerFunc func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error

func (f handlerFunc) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	return f(ctx, tx, entry)
}
func (handlerFunc) Name() string    { return "test" }
func (handlerFunc) Types() []string { return nil }
func (handlerFunc) External() bool  { return false }

func (handlerFunc) Applied(context.Context, outbox.Entry) {}

// TestHandleSafely checks how errors and panics of a handler are returned.
func TestHandleSafely(t *testing.T) {
	postgresSays := func(state string) error {
		return fmt.Errorf("insert a row: %w", &pgconn.PgError{Code: state, Message: "it says no"})
	}
	outage := fault.New(fault.Unavailable, "mailer_down", "the mailer is down")
	for name, c := range map[string]struct {
		err       error
		kind      fault.Kind
		permanent bool
	}{
		"data exception":         {err: postgresSays("22003"), kind: fault.Refused, permanent: true},
		"not null":               {err: postgresSays("23502"), kind: fault.Refused, permanent: true},
		"check":                  {err: postgresSays("23514"), kind: fault.Refused, permanent: true},
		"too large":              {err: postgresSays("54000"), kind: fault.Refused, permanent: true},
		"no parent row yet":      {err: postgresSays("23503"), kind: fault.Internal},
		"a row with that key":    {err: postgresSays("23505"), kind: fault.Internal},
		"deadlock":               {err: postgresSays("40P01"), kind: fault.Unavailable},
		"shutting down":          {err: postgresSays("57P01"), kind: fault.Unavailable},
		"no table":               {err: postgresSays("42P01"), kind: fault.Internal},
		"declared outage":        {err: outage, kind: fault.Unavailable},
		"outage with a reason":   {err: outage.Wrap(postgresSays("22003")), kind: fault.Unavailable},
		"the handler's timeout":  {err: fmt.Errorf("post: %w", context.DeadlineExceeded), kind: fault.Internal},
		"never":                  {err: inbox.ErrPermanent.Wrap(errors.New("no such plan")), kind: fault.Refused, permanent: true},
		"anything else":          {err: errors.New("anything else"), kind: fault.Internal},
		"a fault with a bad row": {err: fault.New(fault.Conflict, "no", "no").Wrap(postgresSays("23514")), kind: fault.Refused, permanent: true},
	} {
		t.Run(name, func(t *testing.T) {
			handler := handlerFunc(func(context.Context, inbox.Tx, outbox.Entry) error { return c.err })
			err := postgres.HandleSafely(t.Context(), handler, nil, entry(1))
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.kind, fault.KindOf(err), "%v", err)
			require.Equal(t, c.permanent, inbox.Permanent(err))
			if c.kind == fault.Internal && name != "no table" {
				require.Equal(t, c.err, err, "as the handler returned it")
			}

			ended, end := context.WithCancel(t.Context())
			end()
			err = postgres.HandleSafely(ended, handler, nil, entry(1))
			require.ErrorIs(t, err, context.Canceled)
		})
	}
	panics := handlerFunc(func(context.Context, inbox.Tx, outbox.Entry) error { panic("mine") })
	err := postgres.HandleSafely(t.Context(), panics, nil, entry(1))
	require.ErrorContains(t, err, "the handler panicked: mine\n")
	require.ErrorContains(t, err, "effects_test.go")
	require.Equal(t, fault.Internal, fault.KindOf(err))
	nothing := handlerFunc(func(context.Context, inbox.Tx, outbox.Entry) error { return nil })
	require.NoError(t, postgres.HandleSafely(t.Context(), nothing, nil, entry(1)))
}
