package outboxie_test

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

const (
	patience = 30 * time.Second
	issued   = "acme.invoice.issued.v1"
	noted    = "acme.note.added.v1"
	token    = "a-token-for-the-tests"
)

// invoice is the payload of issued.
type invoice struct {
	Customer string `json:"customer"`
	Amount   int64  `json:"amount"`
}

// world is a database of a service, without the engine's tables, and a broker.
type world struct {
	t        *testing.T
	database string
	broker   string
	db       *sql.DB
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, database: infra.Database(t), broker: infra.Broker(t)}
	db, err := sql.Open("pgx", w.database)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	w.db = db
	w.exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE balances (customer text PRIMARY KEY, amount bigint NOT NULL)")
	return w
}

func (w *world) exec(statement string) {
	w.t.Helper()
	_, err := w.db.ExecContext(w.t.Context(), statement)
	require.NoError(w.t, err)
}

// engine returns a migrated engine.
func (w *world) engine() *outboxie.Engine {
	w.t.Helper()
	e := w.unprepared()
	require.NoError(w.t, e.Migrate(w.t.Context()))
	return e
}

func (w *world) unprepared() *outboxie.Engine {
	w.t.Helper()
	e, err := outboxie.Configure().Database(w.database).NATS(w.broker).Stream("INVOICES", "invoices.>").Source("/acme/billing").
		MaxConnections(8).Logger(slog.New(slog.DiscardHandler)).Build()
	require.NoError(w.t, err)
	w.t.Cleanup(e.Close)
	return e
}

// run runs e until the test ends.
func (w *world) run(e *outboxie.Engine) {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		require.NoError(w.t, <-ended)
	})
}

// issue issues an invoice for a customer.
func (w *world) issue(e *outboxie.Engine, id, customer string, amount int64) {
	w.t.Helper()
	tx, err := w.db.BeginTx(w.t.Context(), nil)
	require.NoError(w.t, err)
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	require.NoError(w.t, e.Outbox().Append(w.t.Context(), tx, event(w.t, id, 1, invoice{customer, amount})))
	require.NoError(w.t, tx.Commit())
	e.Outbox().Wake()
}

func event(t *testing.T, id string, version int64, data any) outboxie.Event {
	t.Helper()
	made, err := outboxie.NewEvent(issued, "invoices.issued", outboxie.Aggregate{Type: "invoice", ID: id}, version, data)
	require.NoError(t, err)
	return made
}

// balances returns all balances.
func (w *world) balances() (text string) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRowContext(w.t.Context(),
		`SELECT coalesce(string_agg(customer || ' ' || amount, '; ' ORDER BY customer COLLATE "C"), '') FROM balances`).Scan(&text))
	return text
}

const addToBalance = `INSERT INTO balances AS b (customer, amount) VALUES ($1, $2)
	ON CONFLICT (customer) DO UPDATE SET amount = b.amount + excluded.amount`
