package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/migrations"
)

// The migration lock is a row with a lease, renewed by its holder: it needs no session, and the lock of a holder that
// died is free after the lease.
const (
	migrationLease     = 10 * time.Second
	migrationHeartbeat = 2 * time.Second
	migrationPoll      = 100 * time.Millisecond
	migrationUnlocks   = 10
)

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string
	Applied   bool
	AppliedAt time.Time // zero unless Applied
}

// ErrMayNotMigrate : the schema is not up to date, and the role may not change that.
var ErrMayNotMigrate = fault.New(fault.Invalid, "may_not_migrate",
	"the database's schema is missing or older than this program, and this role may not change that: run `outboxie migrate up` "+
		"as the role that may")

// ErrDuplicateIDs reports that the outbox holds an event id twice. Which row is right only a person can know.
var ErrDuplicateIDs = fault.New(fault.Invalid, "duplicate_event_ids",
	"the outbox has several rows of one event id, and subscribers apply only one of them")

// MigrateUp brings the schema up to date. Any number of instances may call it at once: one applies, the others wait for
// it until their context ends. Where nothing is missing it needs no more than the right to read goose_db_version. db's pool
// needs two connections.
func MigrateUp(ctx context.Context, db *bun.DB, logger *slog.Logger) error {
	provider, err := newProvider(db, logger)
	if err != nil {
		return err
	}
	var begun bool
	err = db.QueryRowContext(ctx, "SELECT to_regclass(?) IS NOT NULL", goose.DefaultTablename).Scan(&begun)
	pending := true
	if err == nil && begun {
		pending, err = provider.HasPending(ctx)
	}
	if err == nil && pending {
		var applied []*goose.MigrationResult
		applied, err = provider.Up(allow(ctx, migrating))
		tell(ctx, logger, "applied migration", applied...)
	}
	var reported *pgconn.PgError
	switch {
	case sqlState(err) == "42501": // insufficient privilege
		return ErrMayNotMigrate.Wrap(err)
	case errors.As(err, &reported) && reported.ConstraintName == "outbox_event_id":
		return ErrDuplicateIDs.With("%s: %s Stop the relays, leave one row of each such id, and migrate again; docs/operations.md, "+
			"\"Several rows of one event id\", has the statements", ErrDuplicateIDs.Detail, reported.Detail).Wrap(err)
	case err != nil:
		return classify(ctx, fmt.Errorf("migrate the database up: %w", err))
	}
	return nil
}

// MigrateDown takes the newest applied migration back, with the data it holds. Without any it does nothing.
func MigrateDown(ctx context.Context, db *bun.DB, logger *slog.Logger) error {
	provider, err := newProvider(db, logger)
	if err != nil {
		return err
	}
	reverted, err := provider.Down(allow(ctx, migrating))
	if errors.Is(err, goose.ErrNoNextVersion) {
		return nil
	}
	if err != nil {
		return classify(ctx, fmt.Errorf("migrate the database down: %w", err))
	}
	tell(ctx, logger, "took migration back", reverted)
	return nil
}

func tell(ctx context.Context, logger *slog.Logger, what string, results ...*goose.MigrationResult) {
	for _, result := range results {
		logger.InfoContext(ctx, what, "migration", filepath.Base(result.Source.Path), "took", result.Duration.Round(time.Millisecond))
	}
}

// MigrateStatus lists every migration, oldest first.
func MigrateStatus(ctx context.Context, db *bun.DB, logger *slog.Logger) ([]Migration, error) {
	provider, err := newProvider(db, logger)
	if err != nil {
		return nil, err
	}
	status, err := provider.Status(ctx)
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("read the state of the migrations: %w", err))
	}
	steps := make([]Migration, 0, len(status))
	for _, step := range status {
		steps = append(steps, Migration{
			Version:   step.Source.Version,
			Name:      filepath.Base(step.Source.Path),
			Applied:   step.State == goose.StateApplied,
			AppliedAt: step.AppliedAt,
		})
	}
	return steps, nil
}

func newProvider(db *bun.DB, logger *slog.Logger) (*goose.Provider, error) {
	if db.Stats().MaxOpenConnections == 1 {
		return nil, errors.New("migrations need a pool of at least two connections")
	}
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableLeaseDuration(migrationLease),
		lock.WithTableHeartbeatInterval(migrationHeartbeat),
		lock.WithTableLockTimeout(migrationPoll, math.MaxUint32), // in effect until the context ends
		lock.WithTableUnlockTimeout(migrationPoll, migrationUnlocks),
		lock.WithTableRetryPolicy(awaitLock(logger)),
		lock.WithTableLogger(logger),
	)
	if err != nil {
		return nil, fmt.Errorf("set up the migration lock: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db.DB, migrations.Files,
		goose.WithLocker(locker), goose.WithSlog(logger))
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return provider, nil
}
