package outboxie_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie"
)

// handled waits until the customers of the applied events and of the dead letters are as wanted.
func (w *world) handled(applied, dead string) {
	w.t.Helper()
	var gotApplied, gotDead string
	require.EventuallyWithT(w.t, func(c *assert.CollectT) {
		require.NoError(c, w.db.QueryRowContext(w.t.Context(), `SELECT
			(SELECT coalesce(string_agg(o.aggregate_id, ' ' ORDER BY o.aggregate_id), '') FROM inbox AS i JOIN outbox AS o USING (event_id)
				WHERE i.applied_at IS NOT NULL),
			(SELECT coalesce(string_agg(aggregate_id, ' ' ORDER BY aggregate_id), '') FROM dead_letters WHERE state = 'dead')`).Scan(&gotApplied, &gotDead))
		require.Equal(c, applied, gotApplied)
		require.Equal(c, dead, gotDead)
	}, patience, 20*time.Millisecond)
}

// misuses are functions that treat their transaction badly, after they have had an effect. Each is called for customer bad.
var misuses = map[string]struct {
	do      func(ctx context.Context, tx *outboxie.Tx) error
	applied bool // the misuse has no consequence
}{
	"commit": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		_, err := tx.ExecContext(ctx, "COMMIT")
		return err
	}},
	"commit, and the error is ignored": {applied: true, do: func(ctx context.Context, tx *outboxie.Tx) error {
		_, _ = tx.ExecContext(ctx, "COMMIT")
		return nil
	}},
	"rollback in a query": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		rows, err := tx.QueryContext(ctx, "/* undo */ ROLLBACK")
		if rows != nil {
			return errors.Join(err, rows.Close())
		}
		return err
	}},
	"a new transaction": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		_, err := tx.ExecContext(ctx, "SELECT 1; COMMIT; BEGIN")
		return err
	}},
	"commit through bun": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		b, err := tx.Bun()
		if err != nil {
			return err
		}
		if _, commits := b.(interface{ Commit() error }); commits {
			return nil // it would be applied
		}
		_, err = b.ExecContext(ctx, "END")
		return err
	}},
	"an error is ignored": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		_, _ = tx.ExecContext(ctx, "SELECT 1/0")
		return nil
	}},
	"rows stay open": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		_, err := tx.QueryContext(ctx, "SELECT generate_series(1, 100000)")
		return err
	}},
	"a row is not scanned": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		tx.QueryRowContext(ctx, "SELECT 1")
		return nil
	}},
	"a statement while rows are read": {do: func(ctx context.Context, tx *outboxie.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT generate_series(1, 100000)")
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "SELECT 1")
		return errors.Join(err, rows.Err(), rows.Close())
	}},
	"panic": {do: func(context.Context, *outboxie.Tx) error { panic("a bug") }},
	"savepoints": {applied: true, do: func(ctx context.Context, tx *outboxie.Tx) error {
		_, first := tx.ExecContext(ctx, "SAVEPOINT mine")
		_, failed := tx.ExecContext(ctx, "SELECT 1/0")
		_, back := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT mine")
		if failed == nil {
			return errors.New("the division succeeded")
		}
		return errors.Join(first, back)
	}},
}

// TestMisusedTransaction checks that a function cannot end its transaction, and that a function that leaves its transaction unusable fails
// alone: its event is dead and has no effect, and every other event has its effect once.
func TestMisusedTransaction(t *testing.T) {
	for name, misuse := range misuses {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.engine()
			require.NoError(t, e.Relay())
			h := outboxie.NewHandler("h")
			outboxie.On(h, issued, func(ctx context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoice) error {
				if _, err := tx.ExecContext(ctx, addToBalance, data.Customer, data.Amount); err != nil {
					return err
				}
				if data.Customer == "bad" {
					return misuse.do(ctx, tx)
				}
				return nil
			})
			require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{MaxAttempts: 2}))
			w.issue(e, "1", "ada", 1)
			w.issue(e, "2", "bad", 1)
			w.issue(e, "3", "bob", 1)
			w.run(e)
			if misuse.applied {
				w.handled("1 2 3", "")
				require.Equal(t, "ada 1; bad 1; bob 1", w.balances())
				return
			}
			w.handled("1 3", "2")
			require.Equal(t, "ada 1; bob 1", w.balances())
		})
	}
}

// TestPanics checks that a panic of a middleware and of the write of a batch is a failure of the event, and of no other.
func TestPanics(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	h := outboxie.NewHandler("h").Use(func(next outboxie.HandlerFunc) outboxie.HandlerFunc {
		return func(ctx context.Context, tx *outboxie.Tx, event outboxie.Received) error {
			if event.Aggregate.ID == "2" {
				panic("a bug of the middleware")
			}
			return next(ctx, tx, event)
		}
	})
	batch := outboxie.NewBatch(h, func(ctx context.Context, tx *outboxie.Tx, items []invoice) error {
		for _, item := range items {
			if item.Customer == "bad" {
				panic("a bug of the batch")
			}
			if _, err := tx.ExecContext(ctx, addToBalance, item.Customer, item.Amount); err != nil {
				return err
			}
		}
		return nil
	})
	outboxie.On(h, issued, func(_ context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoice) error {
		return batch.Add(tx, data)
	})
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{MaxAttempts: 2}))
	w.issue(e, "1", "ada", 1)
	w.issue(e, "2", "eve", 1)
	w.issue(e, "3", "bad", 1)
	w.issue(e, "4", "bob", 1)
	w.run(e)
	w.handled("1 4", "2 3")
	require.Equal(t, "ada 1; bob 1", w.balances())
}

// TestBatchOfAnotherHandler checks that a function cannot add to the batch of another handler. The batches of both handlers have the same
// number, so one of them would write the items of the other.
func TestBatchOfAnotherHandler(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	write := func(who string) func(context.Context, *outboxie.Tx, []invoice) error {
		return func(ctx context.Context, tx *outboxie.Tx, items []invoice) error {
			for _, item := range items {
				if _, err := tx.ExecContext(ctx, addToBalance, who+"/"+item.Customer, item.Amount); err != nil {
					return err
				}
			}
			return nil
		}
	}
	first, second := outboxie.NewHandler("first"), outboxie.NewHandler("second")
	ofFirst, ofSecond := outboxie.NewBatch(first, write("first")), outboxie.NewBatch(second, write("second"))
	outboxie.On(first, issued, func(_ context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoice) error {
		return ofFirst.Add(tx, data)
	})
	refused := make(chan error, 100)
	outboxie.On(second, issued, func(_ context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoice) error {
		refused <- ofFirst.Add(tx, data)
		return ofSecond.Add(tx, data)
	})
	require.NoError(t, e.Subscriber("one", first, outboxie.SubscriberOptions{}))
	require.NoError(t, e.Subscriber("two", first, outboxie.SubscriberOptions{}))
	require.NoError(t, e.Subscriber("three", second, outboxie.SubscriberOptions{}))
	w.run(e)
	w.issue(e, "1", "ada", 1)
	w.handled("1 1 1", "")
	require.Equal(t, "first/ada 2; second/ada 1", w.balances())
	require.ErrorContains(t, <-refused, "the batch belongs to the handler first")
}

// TestWrongHandlers checks that Subscriber refuses a handler that cannot work, and that a handler of a subscriber cannot be changed.
func TestWrongHandlers(t *testing.T) {
	w := newWorld(t)
	e := w.unprepared()
	apply := func(context.Context, *outboxie.Tx, outboxie.Received) error { return nil }
	for want, h := range map[string]outboxie.AnyHandler{
		"has no handler":         nil,
		"the handler is nil":     (*outboxie.Handler)(nil),
		"two functions":          outboxie.NewHandler("h").Handle(issued, apply).Handle(issued, apply),
		"is nil":                 outboxie.NewHandler("h").Handle(issued, nil),
		"no type of event":       outboxie.NewHandler("h").Handle("", apply),
		"a middleware is nil":    outboxie.NewHandler("h").Handle(issued, apply).Use(nil),
		"SUBSCRIBER_HANDLER":     outboxie.NewHandler("").Handle(issued, apply),
		"has no function":        outboxie.NewExternalHandler("h"),
		"handler e: a middlewar": outboxie.NewExternalHandler("e").Use(nil),
		"the handler is nil\n":   nil,
		"a batch has no functio": batchWithoutFunction(apply),
	} {
		if want == "the handler is nil\n" {
			want, h = "the handler is nil", (*outboxie.ExternalHandler)(nil)
		}
		require.ErrorContains(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}), want)
	}
	h := outboxie.NewHandler("h")
	outboxie.On[invoice](h, issued, nil)
	require.ErrorContains(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}), "is nil")
	external := outboxie.NewExternalHandler("h")
	outboxie.OnExternal[invoice](external, issued, nil)
	require.ErrorContains(t, e.Subscriber("s", external, outboxie.SubscriberOptions{}), "is nil")

	h = outboxie.NewHandler("h").Handle(issued, apply)
	require.Error(t, e.Subscriber("a b", h, outboxie.SubscriberOptions{}))
	h.Handle(noted, apply) // no subscriber has it yet
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}))
	require.Panics(t, func() { h.Handle("acme.other.v1", apply) })
	require.Panics(t, func() { h.Use() })
	external = outboxie.NewExternalHandler("h")
	outboxie.OnExternal(external, issued, func(context.Context, outboxie.Received, invoice) error { return nil })
	require.NoError(t, e.Subscriber("external", external, outboxie.SubscriberOptions{}))
	require.Panics(t, func() { external.Use() })
}

func batchWithoutFunction(apply outboxie.HandlerFunc) *outboxie.Handler {
	h := outboxie.NewHandler("h").Handle(issued, apply)
	outboxie.NewBatch[invoice](h, nil)
	return h
}
