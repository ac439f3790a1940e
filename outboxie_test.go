package outboxie_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie"
)

// TestService checks a whole service: an invoice is appended through each kind of transaction, and has its effect once on a subscriber that writes
// with the events, on one that writes in batches and appends a further event, and on one that calls something outside.
func TestService(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())

	var mu sync.Mutex
	var middleware, called, notes []string
	direct := outboxie.NewHandler("direct").Use(func(next outboxie.HandlerFunc) outboxie.HandlerFunc {
		return func(ctx context.Context, tx *outboxie.Tx, event outboxie.Received) error {
			mu.Lock()
			middleware = append(middleware, event.Aggregate.ID)
			mu.Unlock()
			return next(ctx, tx, event)
		}
	})
	outboxie.On(direct, issued, func(ctx context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoice) error {
		_, err := tx.ExecContext(ctx, addToBalance, tx.Subscriber()+"/"+data.Customer, data.Amount)
		return err
	})
	batched := outboxie.NewHandler("batched")
	batch := outboxie.NewBatch(batched, func(ctx context.Context, tx *outboxie.Tx, items []invoice) error {
		for _, item := range items {
			if _, err := tx.ExecContext(ctx, addToBalance, "batched/"+item.Customer, item.Amount); err != nil {
				return err
			}
		}
		return nil
	})
	outboxie.On(batched, issued, func(ctx context.Context, tx *outboxie.Tx, event outboxie.Received, data invoice) error {
		note := outboxie.Event{
			Type: noted, Subject: "invoices.noted", Aggregate: outboxie.Aggregate{Type: "note", ID: event.Aggregate.ID}, Version: event.Version,
			Payload: []byte(`"` + data.Customer + `"`),
		}
		return errors.Join(tx.Append(ctx, note), batch.Add(tx, data))
	})
	outside := outboxie.NewExternalHandler("outside")
	outboxie.OnExternal(outside, issued, func(_ context.Context, event outboxie.Received, data invoice) error {
		mu.Lock()
		defer mu.Unlock()
		called = append(called, event.Aggregate.ID+" of "+data.Customer)
		return nil
	})
	outboxie.OnExternal(outside, noted, func(_ context.Context, event outboxie.Received, customer string) error {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, event.Aggregate.ID+" of "+customer)
		return nil
	})
	require.NoError(t, e.Subscriber("direct", direct, outboxie.SubscriberOptions{Lanes: 4}))
	require.NoError(t, e.Subscriber("batched", batched, outboxie.SubscriberOptions{}))
	require.NoError(t, e.Subscriber("outside", outside, outboxie.SubscriberOptions{}))
	w.run(e)

	w.issue(e, "1", "ada", 10)
	b := bun.NewDB(w.db, pgdialect.New())
	require.NoError(t, b.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		return e.Outbox().Append(ctx, tx, event(t, "2", 1, invoice{"ada? $1", 5}))
	}))
	direct2, err := pgx.Connect(t.Context(), w.database)
	require.NoError(t, err)
	defer func() { require.NoError(t, direct2.Close(context.WithoutCancel(t.Context()))) }()
	require.NoError(t, pgx.BeginFunc(t.Context(), direct2, func(tx pgx.Tx) error {
		return e.Outbox().AppendPgx(t.Context(), tx, event(t, "3", 1, invoice{"bob", 7}), event(t, "3", 2, invoice{"bob", 1}))
	}))

	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(called) == 4 && len(notes) == 4 && w.balances() == "batched/ada 10; batched/ada? $1 5; batched/bob 8; direct/ada 10; direct/ada? $1 5; direct/bob 8"
	}, patience, 10*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.ElementsMatch(t, []string{"1", "2", "3", "3"}, middleware)
	require.Equal(t, []string{"1 of ada", "2 of ada? $1", "3 of bob", "3 of bob"}, called)
	require.Equal(t, []string{"1 of ada", "2 of ada? $1", "3 of bob", "3 of bob"}, notes)
	require.True(t, e.RelayStatus().Leading)
	require.Positive(t, e.RelayStatus().Position)
}

// TestMigrateTouchesOnlyItsTables checks that Migrate leaves the service's tables as they are, and makes no table of the order service.
func TestMigrateTouchesOnlyItsTables(t *testing.T) {
	w := newWorld(t)
	w.engine()
	var tables string
	require.NoError(t, w.db.QueryRowContext(t.Context(),
		"SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace").Scan(&tables))
	require.Contains(t, tables, "balances")
	require.Contains(t, tables, "outbox ")
	for _, foreign := range []string{"orders", "idempotency", "customer_totals"} {
		require.NotContains(t, tables, foreign)
	}
}

// TestFailures checks what becomes of an event by the error of its handler: a permanent failure and an unreadable payload are dead at once, an outage
// does not count, and another failure is tried again.
func TestFailures(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	var mu sync.Mutex
	calls := make(map[string]int)
	h := outboxie.NewHandler("picky")
	outboxie.On(h, issued, func(_ context.Context, _ *outboxie.Tx, event outboxie.Received, data invoice) error {
		mu.Lock()
		defer mu.Unlock()
		calls[event.Aggregate.ID]++
		switch {
		case data.Customer == "never":
			return outboxie.Permanent(errors.New("no such customer"))
		case data.Customer == "down" && calls[event.Aggregate.ID] < 4:
			return outboxie.Unavailable(errors.New("the bank is closed"))
		case data.Customer == "later" && calls[event.Aggregate.ID] < 3:
			return errors.New("try again")
		}
		return nil
	})
	require.NoError(t, e.Subscriber("picky", h, outboxie.SubscriberOptions{MaxAttempts: 3}))
	w.run(e)
	w.issue(e, "1", "never", 1)
	w.issue(e, "2", "down", 1)
	w.issue(e, "3", "later", 1)
	tx, err := w.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, e.Outbox().Append(t.Context(), tx, event(t, "4", 1, "no invoice")))
	require.NoError(t, tx.Commit())
	w.issue(e, "5", "fine", 1)
	require.Eventually(t, func() bool {
		var applied, dead string
		require.NoError(t, w.db.QueryRowContext(t.Context(), `SELECT
			(SELECT coalesce(string_agg(o.aggregate_id, ' ' ORDER BY o.aggregate_id), '') FROM inbox AS i JOIN outbox AS o USING (event_id)
				WHERE i.applied_at IS NOT NULL),
			(SELECT coalesce(string_agg(aggregate_id, ' ' ORDER BY aggregate_id), '') FROM dead_letters WHERE state = 'dead')`).Scan(&applied, &dead))
		return applied == "2 3 5" && dead == "1 4"
	}, patience, 10*time.Millisecond)
}

// TestBuildNamesWhatIsWrong checks that Build reports every setting that is missing or wrong.
func TestBuildNamesWhatIsWrong(t *testing.T) {
	_, err := outboxie.Configure().Build()
	for _, missing := range []string{"DATABASE_URL", "STREAM_NAME", "STREAM_SUBJECTS", "EVENT_SOURCE"} {
		require.ErrorContains(t, err, missing+" is not set")
	}
	_, err = outboxie.Configure().Environment([]string{"DATABASE_URL=postgres://db/billing", "STREAM_NAME=FROM_ENV"}).
		Stream("A.B", "invoices.*").Source("a b").Lease(time.Hour).Build()
	for _, wrong := range []string{`STREAM_NAME is "A.B"`, `STREAM_SUBJECTS is "invoices.*"`, `EVENT_SOURCE is "a b"`, "OUTBOX_LEASE_TTL"} {
		require.ErrorContains(t, err, wrong)
	}
}

// TestDeclarationsThatAreRefused checks the errors of parts that cannot work.
func TestDeclarationsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	e := w.unprepared()
	require.ErrorContains(t, e.Run(t.Context()), "nothing to run")
	_, err := e.Admin(outboxie.AdminOptions{})
	require.ErrorContains(t, err, "needs a token")
	_, err = e.Admin(outboxie.AdminOptions{Token: "short"})
	require.ErrorContains(t, err, "must be 16 to 200")
	h := outboxie.NewHandler("h")
	require.ErrorContains(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}), "has no function")
	outboxie.On(h, issued, func(context.Context, *outboxie.Tx, outboxie.Received, invoice) error { return nil })
	require.ErrorContains(t, e.Subscriber("a b", h, outboxie.SubscriberOptions{}), "SUBSCRIBER_ID")
	require.ErrorContains(t, e.Subscriber("s", h, outboxie.SubscriberOptions{Lanes: -1}), "SUBSCRIBER_LANES")
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}))
	require.ErrorContains(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}), "already")
	require.NoError(t, e.Relay())
	require.ErrorContains(t, e.Relay(), "already")
	require.ErrorContains(t, e.Run(t.Context()), "Migrate")
}

// TestOtherHandlerEndsRun checks that Run ends with the reason if the subscriber has a handler of another name.
func TestOtherHandlerEndsRun(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"first", "second"} {
		e := w.engine()
		require.NoError(t, e.Relay())
		h := outboxie.NewHandler(name)
		outboxie.On(h, issued, func(context.Context, *outboxie.Tx, outboxie.Received, invoice) error { return nil })
		require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}))
		if name == "second" {
			err := e.Run(t.Context())
			require.ErrorContains(t, err, "subscriber s")
			require.ErrorContains(t, err, "first")
			return
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		require.Eventually(t, func() bool {
			var begun int
			require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT count(*) FROM subscribers WHERE handler IS NOT NULL").Scan(&begun))
			return begun > 0
		}, patience, 10*time.Millisecond)
		stop()
		require.NoError(t, <-ended)
	}
}

// TestAdmin checks probes, the operators' API and the console of a service, and that its read token allows no profile.
func TestAdmin(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	const readToken = "may-only-read-and-nothing-else"
	admin, err := e.Admin(outboxie.AdminOptions{Token: token, ReadToken: readToken})
	require.NoError(t, err)
	w.run(e)
	server := httptest.NewServer(admin)
	defer server.Close()
	get := func(path, bearer string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		require.NoError(t, err)
		if bearer != "" {
			request.Header.Set("Authorization", "Bearer "+bearer)
		}
		answer, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(t, err)
		defer func() { require.NoError(t, answer.Body.Close()) }()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	require.Eventually(t, func() bool {
		code, body := get("/readyz", token)
		return code == http.StatusOK && strings.Contains(body, `"stream"`) && strings.Contains(body, `"broker"`)
	}, patience, 50*time.Millisecond)
	code, _ := get("/outbox/status", "")
	require.Equal(t, http.StatusUnauthorized, code)
	code, _ = get("/debug/pprof/heap", readToken)
	require.Equal(t, http.StatusForbidden, code)
	w.issue(e, "1", "ada", 1)
	require.Eventually(t, func() bool {
		code, body := get("/outbox/status", readToken)
		return code == http.StatusOK && strings.Contains(body, `"position":1`)
	}, patience, 50*time.Millisecond)
	code, body := get("/console/sign-in", "")
	require.Equal(t, http.StatusOK, code, body)
	require.Contains(t, body, "Admin token")
	code, _ = get("/console", "")
	require.Equal(t, http.StatusSeeOther, code)
}

// TestBatchCannotAppend checks that the write of a batch gets an error if it appends an event or adds to a batch, because nobody would write that.
func TestBatchCannotAppend(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	got := make(chan error, 10)
	h := outboxie.NewHandler("batched")
	var batch *outboxie.Batch[invoice]
	batch = outboxie.NewBatch(h, func(ctx context.Context, tx *outboxie.Tx, _ []invoice) error {
		got <- errors.Join(tx.Append(ctx, event(t, "9", 1, 1)), batch.Add(tx, invoice{}))
		return nil
	})
	outboxie.On(h, issued, func(_ context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoice) error {
		return batch.Add(tx, data)
	})
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}))
	w.run(e)
	w.issue(e, "1", "ada", 1)
	select {
	case err := <-got:
		require.ErrorContains(t, err, "cannot append events")
		require.ErrorContains(t, err, "nothing can be collected")
	case <-time.After(patience):
		t.Fatal("the batch was not written")
	}
}

// TestKeptTransaction checks that a handler that keeps its transaction gets errors from all methods of it.
func TestKeptTransaction(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	require.NoError(t, e.Relay())
	kept := make(chan *outboxie.Tx, 10)
	h := outboxie.NewHandler("keeper")
	outboxie.On(h, issued, func(_ context.Context, tx *outboxie.Tx, _ outboxie.Received, data invoice) error {
		if data.Customer == "ada" {
			kept <- tx
		}
		return nil
	})
	require.NoError(t, e.Subscriber("s", h, outboxie.SubscriberOptions{}))
	w.run(e)
	w.issue(e, "1", "ada", 1)
	var tx *outboxie.Tx
	select {
	case tx = <-kept:
	case <-time.After(patience):
		t.Fatal("no event")
	}
	require.Eventually(t, func() bool {
		var applied int
		require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL").Scan(&applied))
		return applied == 1
	}, patience, 5*time.Millisecond)
	ctx := t.Context()
	_, failed := tx.ExecContext(ctx, "SELECT 1")
	require.ErrorIs(t, failed, sql.ErrTxDone)
	rows, failed := tx.QueryContext(ctx, "SELECT 1") //nolint:rowserrcheck // it fails
	require.Nil(t, rows)
	require.ErrorIs(t, failed, sql.ErrTxDone)
	require.Error(t, tx.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
	_, failed = tx.Bun()
	require.ErrorIs(t, failed, sql.ErrTxDone)
	require.ErrorIs(t, tx.Append(ctx, event(t, "9", 1, fmt.Sprint(1))), sql.ErrTxDone)
}
