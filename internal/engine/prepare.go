package engine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// databasePatience is how long a starting process waits for a database that cannot be reached, is starting, or is a standby. The process
// does not wait for a database that refuses it.
const databasePatience = 30 * time.Second

// Prepare migrates the sets of tables that the process uses; without a set, it migrates all. It checks that the settings of the database
// cannot lose events. Nothing else may use the database before it returns.
func Prepare(ctx context.Context, c config.Config, logger *slog.Logger, sets ...postgres.Set) error {
	return untilReady(ctx, c, logger, func(db *bun.DB) error {
		if err := postgres.MigrateUp(ctx, db, logger, sets...); err != nil {
			return err
		}
		return postgres.NewLog(db, c.Stream.Name, logger).Check(ctx, sets...)
	})
}

// Check checks the tables of the engine and the settings of the database as Prepare does, and changes nothing.
func Check(ctx context.Context, c config.Config, logger *slog.Logger) error {
	return untilReady(ctx, c, logger, func(db *bun.DB) error {
		return postgres.NewLog(db, c.Stream.Name, logger).Check(ctx, postgres.EngineTables)
	})
}

// PrepareRelay does what Prepare does for the tables of the engine, and waits for nothing: a caller who wants to wait tries again.
func PrepareRelay(ctx context.Context, c config.Config, logger *slog.Logger) error {
	err := WithDatabase(c, func(db *bun.DB) error {
		if err := postgres.MigrateUp(ctx, db, logger, postgres.EngineTables); err != nil {
			return err
		}
		return postgres.NewLog(db, c.Stream.Name, logger).Check(ctx, postgres.EngineTables)
	})
	if err != nil {
		return fmt.Errorf("prepare the database %s: %w", c.Database.URL, err)
	}
	return nil
}

// untilReady calls use until it succeeds, or fails for another reason than that the database cannot be used yet.
func untilReady(ctx context.Context, c config.Config, logger *slog.Logger, use func(*bun.DB) error) error {
	return WithDatabase(c, func(db *bun.DB) error {
		patience := time.Now().Add(databasePatience)
		for warned := false; ; warned = true {
			err := use(db)
			if err == nil {
				return nil
			}
			err = postgres.Refused(err)
			if fault.KindOf(err) != fault.Unavailable || time.Now().After(patience) {
				return fmt.Errorf("prepare the database %s: %w", c.Database.URL, err)
			}
			if !warned {
				logger.WarnContext(ctx, "the database cannot be used yet, waiting", "for", databasePatience, "error", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(250 * time.Millisecond):
			}
		}
	})
}

// WithDatabase calls use with a connection pool. If the server refuses connections, the error says what to do.
func WithDatabase(c config.Config, use func(*bun.DB) error) (err error) {
	db, err := postgres.Open(postgres.Options{URL: string(c.Database.URL), MaxOpenConns: 2, ApplicationName: c.InstanceID})
	if err != nil {
		return err
	}
	defer func() {
		if closed := db.Close(); err == nil {
			err = closed
		}
	}()
	err = postgres.Refused(use(db))
	if postgres.Unreachable(err) && fault.KindOf(err) == fault.Unavailable {
		return fmt.Errorf("%w; DATABASE_URL says where Postgres is", err)
	}
	return err
}
