package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// Migration is one step of the schema.
type Migration struct {
	Set       Set
	Version   int64
	Name      string
	Applied   bool
	AppliedAt time.Time // zero unless Applied
}

// ErrMayNotMigrate reports that the schema is not up to date, and that the role may not update it.
var ErrMayNotMigrate = fault.New(fault.Invalid, "may_not_migrate",
	"the database's schema is missing or older than this program, or this role has no right to its version yet, and this role may "+
		"not change that: run `outboxie migrate up` as the role that may, and then docker/roles.sql if you use its roles")

// ErrDuplicateIDs reports that the outbox holds an event id twice. Only a person can know which row is right.
var ErrDuplicateIDs = fault.New(fault.Invalid, "duplicate_event_ids",
	"the outbox has several rows of one event id, and subscribers apply only one of them")

// ErrInUse reports that a migration could not lock a table, because other transactions kept using it.
var ErrInUse = fault.New(fault.Unavailable, "table_in_use", "a migration waits for a table that other transactions use")

// ErrStatementTimeout reports that Postgres ended a migration's statement because of a statement_timeout.
var ErrStatementTimeout = fault.New(fault.Invalid, "statement_timeout",
	"Postgres ended a migration's statement: building an index takes long, and statement_timeout is set for this role or database. "+
		"Migrate as a role for which it is not: ALTER ROLE … SET statement_timeout = 0")

// ErrReverted reports that an earlier version of the program has taken back a migration that both versions know.
var ErrReverted = fault.New(fault.Invalid, "migration_taken_back", "an earlier version of outboxie has taken a migration back")

// MigrateUp brings the tables of the sets up to date; no set: all of them. Any number of instances may call it at once: one applies the
// migrations, and the others wait until it has finished or their context ends. The earlier version of the program may serve meanwhile. If
// nothing is missing, MigrateUp needs only the right to read the sets' version tables. db's pool needs two connections.
func MigrateUp(ctx context.Context, db *bun.DB, logger *slog.Logger, sets ...Set) error {
	if len(sets) == 0 {
		sets = Sets()
	}
	for _, set := range sets {
		if err := migrateSet(ctx, db, logger, set); err != nil {
			return migrationError(ctx, fmt.Errorf("migrate the %s's tables up: %w", set, err))
		}
	}
	return nil
}

func migrateSet(ctx context.Context, db *bun.DB, logger *slog.Logger, set Set) error {
	m, err := newMigrator(db, set, logger)
	if err != nil {
		return err
	}
	known, err := m.readVersions(ctx)
	if err != nil {
		return err
	}
	if known.takenBack > 0 {
		return ErrReverted.With("migration %d of the %s's tables, which this program relies on, was taken back by an earlier version of "+
			"outboxie: run `outboxie migrate up` of that earlier version, and then this one again", known.takenBack, set)
	}
	if known.exists {
		provider, err := m.provider(known)
		if err != nil {
			return err
		}
		if pending, err := provider.HasPending(ctx); err != nil || !pending {
			return err
		}
	}
	return m.run(ctx, "applied migration", up)
}

func up(ctx context.Context, provider *goose.Provider) ([]*goose.MigrationResult, error) {
	return provider.Up(ctx)
}

// MigrateDown takes back one migration of a set, with the data that it holds. NewestMigration returns which migration can be taken back. If
// somebody else has taken it back meanwhile, MigrateDown does nothing.
func MigrateDown(ctx context.Context, db *bun.DB, logger *slog.Logger, set Set, version int64) error {
	m, err := newMigrator(db, set, logger)
	if err != nil {
		return err
	}
	err = m.run(ctx, "took migration back", func(ctx context.Context, provider *goose.Provider) ([]*goose.MigrationResult, error) {
		reverted, err := provider.ApplyVersion(ctx, version, false)
		if err != nil {
			return nil, err
		}
		return []*goose.MigrationResult{reverted}, nil
	})
	if errors.Is(err, goose.ErrNotApplied) {
		return nil
	}
	if err != nil {
		return migrationError(ctx, fmt.Errorf("take migration %d of the %s's tables back: %w", version, set, err))
	}
	return nil
}

// MigrateStatus lists the migrations of every set, oldest first. It changes nothing.
func MigrateStatus(ctx context.Context, db *bun.DB, logger *slog.Logger) ([]Migration, error) {
	var steps []Migration
	for _, set := range Sets() {
		found, err := listSet(ctx, db, logger, set)
		if err != nil {
			return nil, classify(ctx, fmt.Errorf("read the state of the %s's migrations: %w", set, err))
		}
		steps = append(steps, found...)
	}
	return steps, nil
}

func listSet(ctx context.Context, db *bun.DB, logger *slog.Logger, set Set) ([]Migration, error) {
	m, err := newMigrator(db, set, logger)
	if err != nil {
		return nil, err
	}
	known, err := m.readVersions(ctx)
	if err != nil {
		return nil, err
	}
	applied, err := m.applied(ctx, known)
	if err != nil {
		return nil, err
	}
	provider, err := m.provider(known)
	if err != nil {
		return nil, err
	}
	var steps []Migration
	for _, source := range provider.ListSources() {
		at, done := applied[source.Version]
		steps = append(steps, Migration{
			Set: set, Version: source.Version, Name: filepath.Base(source.Path), Applied: done, AppliedAt: at,
		})
	}
	return steps, nil
}

// migrationError adds to an error what the operator must do, if that is known.
func migrationError(ctx context.Context, err error) error {
	var reported *pgconn.PgError
	switch state := sqlState(err); {
	case state == "42501": // insufficient privilege
		return ErrMayNotMigrate.Wrap(err)
	case state == "57014" && ctx.Err() == nil && errors.As(err, &reported) && reported.Message == "canceling statement due to statement timeout":
		return ErrStatementTimeout.Wrap(err)
	case errors.As(err, &reported) && reported.ConstraintName == "outbox_event_id":
		return ErrDuplicateIDs.With("%s: %s Stop the relays, leave one row of each such id, and migrate again; docs/operations.md, "+
			"\"Several rows of one event id\", has the statements", ErrDuplicateIDs.Detail, reported.Detail).Wrap(err)
	}
	return classify(ctx, err)
}
