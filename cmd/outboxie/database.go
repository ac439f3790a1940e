package main

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

// serveTables returns the sets of tables that serve uses. An instance without the API does not use the tables of the service.
func serveTables(c config.Config) []postgres.Set {
	if c.Roles.API {
		return postgres.Sets()
	}
	return []postgres.Set{postgres.EngineTables}
}

// prepareDatabase migrates the sets of tables that the process uses; without a set, it migrates all. It checks that the settings of the
// database cannot lose events. Nothing else starts before it returns.
func prepareDatabase(ctx context.Context, c config.Config, logger *slog.Logger, sets ...postgres.Set) error {
	return withDatabase(c, func(db *bun.DB) error {
		patience := time.Now().Add(databasePatience)
		for warned := false; ; warned = true {
			err := postgres.MigrateUp(ctx, db, logger, sets...)
			if err == nil {
				err = postgres.NewLog(db, c.Stream.Name, logger).Check(ctx, sets...)
			}
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

// withDatabase calls use with a connection pool. If the server refuses connections, the error says what to do.
func withDatabase(c config.Config, use func(*bun.DB) error) (err error) {
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
