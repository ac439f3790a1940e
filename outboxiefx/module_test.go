package outboxiefx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/assylzhan-a/outboxie"
	"github.com/assylzhan-a/outboxie/outboxiefx"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

const (
	patience = 30 * time.Second
	issued   = "acme.invoice.issued.v1"
	token    = "a-token-for-the-tests"
)

type invoice struct{ Customer string }

// empty returns the address of a database without the engine's tables.
func empty(t *testing.T) (string, *sql.DB) {
	t.Helper()
	address := infra.Database(t)
	db, err := sql.Open("pgx", address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.ExecContext(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	return address, db
}

func configure(database, broker string) func(*outboxie.Builder) {
	return func(b *outboxie.Builder) {
		b.Database(database).NATS(broker).Stream("INVOICES", "invoices.>").Source("/acme/billing")
	}
}

// seen is what a module of the application provides to its handlers.
type seen chan string

func newHandler(s seen) (*outboxie.Handler, error) {
	h := outboxie.NewHandler("listens")
	outboxie.On(h, issued, func(_ context.Context, _ *outboxie.Tx, event outboxie.Received, data invoice) error {
		s <- event.Aggregate.ID + " of " + data.Customer
		return nil
	})
	return h, nil
}

// newExternal depends on the Outbox, as a handler may.
func newExternal(s seen, _ *outboxie.Outbox) *outboxie.ExternalHandler {
	h := outboxie.NewExternalHandler("calls")
	outboxie.OnExternal(h, issued, func(_ context.Context, event outboxie.Received, _ invoice) error {
		s <- event.Aggregate.ID + " outside"
		return nil
	})
	return h
}

func silent() fx.Option {
	return fx.Options(fx.NopLogger, fx.Supply(slog.New(slog.DiscardHandler)))
}

// TestApplication checks an application with all parts: it migrates, delivers an event to the subscribers of two modules, answers operators,
// stops, and starts again on the same data.
func TestApplication(t *testing.T) {
	database, db := empty(t)
	broker := infra.Broker(t)
	address := fmt.Sprintf("127.0.0.1:%d", infra.Port(t))
	for run := range 2 {
		events := make(seen, 10)
		var outbox *outboxie.Outbox
		app := fxtest.New(t, silent(), fx.Supply(events),
			outboxiefx.Module(configure(database, broker), outboxiefx.Migrate(), outboxiefx.Relay(),
				outboxiefx.Admin(address, outboxie.AdminOptions{Token: token})),
			fx.Module("listening", outboxiefx.Subscriber("one", newHandler, outboxie.SubscriberOptions{Lanes: 2})),
			fx.Module("calling", outboxiefx.Subscriber("two", newExternal, outboxie.SubscriberOptions{})),
			fx.Populate(&outbox),
		)
		app.RequireStart()
		id := fmt.Sprint(run)
		require.Eventually(t, func() bool { return issue(t.Context(), db, outbox, id) == nil }, patience, 20*time.Millisecond) // the tables come soon
		wanted := map[string]bool{id + " of ada": true, id + " outside": true}
		for len(wanted) > 0 {
			delete(wanted, receive(t, events)) // a call whose transaction the former stop cut off comes again
		}
		answer, err := http.Get("http://" + address + "/healthz")
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode)
		app.RequireStop()
		_, err = net.Dial("tcp", address)
		require.Error(t, err)
	}
}

func issue(ctx context.Context, db *sql.DB, outbox *outboxie.Outbox, id string) error {
	event, err := outboxie.NewEvent(issued, "invoices.issued", outboxie.Aggregate{Type: "invoice", ID: id}, 1, invoice{"ada"})
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := outbox.Append(ctx, tx, event); err != nil {
		return err
	}
	defer outbox.Wake()
	return tx.Commit()
}

func receive(t *testing.T, events seen) string {
	t.Helper()
	select {
	case event := <-events:
		return event
	case <-time.After(patience):
		t.Fatal("no event")
		return ""
	}
}

// TestFailureShutsDown checks that the application shuts down with exit code 1, and that its stop returns the reason, if the engine cannot run:
// here nobody has migrated.
func TestFailureShutsDown(t *testing.T) {
	database, _ := empty(t)
	app := fx.New(silent(), outboxiefx.Module(configure(database, infra.Broker(t)), outboxiefx.Relay()))
	require.NoError(t, app.Start(t.Context()))
	select {
	case signal := <-app.Wait():
		require.Equal(t, 1, signal.ExitCode)
	case <-time.After(patience):
		t.Fatal("the application goes on")
	}
	require.ErrorIs(t, app.Stop(t.Context()), outboxie.ErrNotMigrated)
}

// TestStartDoesNotWait checks that an application starts and stops without a database and a broker. Two listeners on one address cannot start.
func TestStartDoesNotWait(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	nowhere := configure("postgres://127.0.0.1:1/billing", "nats://127.0.0.1:1")
	app := fx.New(silent(), outboxiefx.Module(nowhere, outboxiefx.Migrate(), outboxiefx.Relay()))
	began := time.Now()
	require.NoError(t, app.Start(t.Context()))
	require.NoError(t, app.Stop(t.Context()))
	require.Less(t, time.Since(began), 10*time.Second)

	app = fx.New(silent(), outboxiefx.Module(nowhere, outboxiefx.Relay(), outboxiefx.Admin(taken.Addr().String(), outboxie.AdminOptions{Open: true})))
	require.ErrorContains(t, app.Start(t.Context()), "listen for operators")
}

// TestWrongApplications checks that fx reports what is wrong before anything starts.
func TestWrongApplications(t *testing.T) {
	good := configure("postgres://127.0.0.1:1/billing", "nats://127.0.0.1:1")
	handler := func() *outboxie.Handler {
		return outboxie.NewHandler("h").Handle(issued, func(context.Context, *outboxie.Tx, outboxie.Received) error { return nil })
	}
	subscriber := func(id string, constructor any) fx.Option {
		return outboxiefx.Subscriber(id, constructor, outboxie.SubscriberOptions{})
	}
	for want, options := range map[string]fx.Option{
		"DATABASE_URL":       outboxiefx.Module(nil),
		"SUBSCRIBER_ID":      fx.Options(outboxiefx.Module(good), subscriber(`a"b`, handler)),
		"already provided":   fx.Options(outboxiefx.Module(good), subscriber("a", handler), subscriber("a", handler)),
		"does not implement": fx.Options(outboxiefx.Module(good), subscriber("a", func() int { return 1 })),
		"no such account": fx.Options(outboxiefx.Module(good), subscriber("a", func() (*outboxie.Handler, error) {
			return nil, errors.New("no such account")
		})),
		"needs a token": outboxiefx.Module(good, outboxiefx.Admin("127.0.0.1:0", outboxie.AdminOptions{})),
	} {
		require.ErrorContains(t, fx.New(silent(), options).Err(), want)
	}
	decorated := fx.New(silent(), outboxiefx.Module(nil), fx.Decorate(func(b *outboxie.Builder) *outboxie.Builder {
		good(b)
		return b
	}))
	require.NoError(t, decorated.Err())
}
