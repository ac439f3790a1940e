package checker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Source has the addresses of what a run leaves behind.
type Source struct {
	DatabaseURL string // of the database with the tables of outbox and inbox; the parameter search_path names another schema than public
	NATSURL     string
	Stream      string // the name of the stream
}

// Results reads what a run leaves behind. Close it after Verify.
type Results struct {
	DB     *sql.DB // for a Service that reads tables of its own
	nc     *nats.Conn
	js     jetstream.JetStream
	stream string
}

// Open connects to the database and the broker of a run. It fails if one of them does not answer, or if the stream does not exist.
func Open(ctx context.Context, from Source) (*Results, error) {
	db, err := sql.Open("pgx", from.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	r := &Results{DB: db, stream: from.Stream}
	if err := r.connect(ctx, from.NATSURL); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Results) connect(ctx context.Context, natsURL string) (err error) {
	if err = r.DB.PingContext(ctx); err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	if r.nc, err = nats.Connect(natsURL); err != nil {
		return fmt.Errorf("reach the broker: %w", err)
	}
	if r.js, err = jetstream.New(r.nc); err != nil {
		return err
	}
	if _, err = r.js.Stream(ctx, r.stream); err != nil {
		return fmt.Errorf("find the stream %s: %w", r.stream, err)
	}
	return nil
}

// Record makes the database keep effects and dead letters from now on, as the function Record says.
func (r *Results) Record(ctx context.Context) error { return Record(ctx, r.DB) }

// History returns the results of the run so far. The caller adds what only the caller knows: Subscribers, External, Ledger, Calls, Recovery and
// Service.
func (r *Results) History(ctx context.Context) History {
	return History{
		Parked: ReadParked(ctx, r.DB), Log: ReadLog(ctx, r.DB), Stream: ReadStream(ctx, r.js, r.stream),
		Effects: ReadEffects(ctx, r.DB), Letters: ReadLetters(ctx, r.DB), Ledger: NewLedger(),
	}
}

// Close ends the connections.
func (r *Results) Close() error {
	if r.nc != nil {
		r.nc.Close()
	}
	return r.DB.Close()
}
