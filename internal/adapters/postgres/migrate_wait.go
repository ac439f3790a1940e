package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// These limits say how a migration waits for tables that are in use. While a statement waits for an exclusive lock, later statements on the
// table wait behind it. So the migration waits only briefly, and other transactions go on during the pause.
const (
	lockTimeout      = "100ms" // how long a statement of a migration waits for a lock
	migrationPause   = 400 * time.Millisecond
	lockGivenUpAfter = 10 * time.Minute // then the migration fails
	watchEvery       = 2 * time.Second  // how often to look at a statement that waits without making others wait
)

// beginMigration begins a transaction that changes tables. It works with PgBouncer in transaction mode, because it changes no setting of
// the session.
const beginMigration = "BEGIN; SET LOCAL lock_timeout = '" + lockTimeout + "'"

// change uses goose. Its context allows long statements, but a statement waits only briefly for a lock.
type change func(ctx context.Context, provider *goose.Provider) ([]*goose.MigrationResult, error)

// run calls do, which changes the schema. While tables are in use it tries again, and logs which transactions use them.
func (m *migrator) run(ctx context.Context, what string, do change) error {
	waiting := wait{since: time.Now(), next: waitNoticed}
	for {
		err := m.try(ctx, what, do)
		if sqlState(err) != "55P03" { // lock not available
			return err
		}
		waited, due := waiting.due()
		impatient := waited > lockGivenUpAfter
		var blockers []string
		if due || impatient {
			blockers = m.describe(ctx, holdersStatement, pgdialect.Array(m.set.tables()))
			m.logger.WarnContext(ctx, "a migration waits for a table that is in use",
				"waited", waited.Round(time.Millisecond), "migration", failedMigration(err), "blocked_by", blockers)
		}
		if impatient {
			return ErrInUse.With("%s waited for %v for a table that is in use by %q: end these transactions "+
				"(pg_terminate_backend), and migrate again", failedMigration(err), lockGivenUpAfter, blockers).Wrap(err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(migrationPause):
		}
	}
}

func (m *migrator) try(ctx context.Context, what string, do change) error {
	if err := m.adopt(ctx); err != nil {
		return err
	}
	known, err := m.readVersions(ctx)
	if err != nil {
		return err
	}
	provider, err := m.provider(known)
	if err != nil {
		return err
	}
	stop := m.watch(ctx)
	done, err := do(allow(ctx, migrationTime), provider)
	stop()
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		done = partial.Applied
	}
	for _, result := range done {
		m.logger.InfoContext(ctx, what, "set", string(m.set), "migration", filepath.Base(result.Source.Path),
			"took", result.Duration.Round(time.Millisecond))
	}
	return err
}

func failedMigration(err error) string {
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		return filepath.Base(partial.Failed.Source.Path)
	}
	return "the version table"
}

// watch logs when the building of an index waits for other transactions, until stop is called.
func (m *migrator) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		waiting := wait{since: time.Now()}
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(watchEvery):
			}
			blockers := m.describe(ctx, blockersStatement)
			if len(blockers) == 0 || ctx.Err() != nil {
				waiting = wait{since: time.Now()}
				continue
			}
			if waited, due := waiting.due(); due {
				m.logger.WarnContext(ctx, "the build of an index waits for open transactions; other transactions are not blocked",
					"waited", waited.Round(time.Millisecond), "blocked_by", blockers)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

const (
	describedBlocker = `
SELECT DISTINCT a.xact_start, by.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, a.backend_type, 'unknown'),
	coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8, coalesce(left(a.query, 120), '')
FROM `

	// holdersStatement lists the transactions that hold locks on the tables, the oldest first.
	holdersStatement = describedBlocker + `pg_locks AS by LEFT JOIN pg_stat_activity AS a ON a.pid = by.pid
WHERE by.locktype = 'relation' AND by.granted AND by.pid IS DISTINCT FROM pg_backend_pid()
	AND by.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND by.relation IN (SELECT to_regclass(t.name)::oid FROM unnest(?::text[]) AS t (name))
ORDER BY 1, 2 LIMIT 3`

	// blockersStatement lists the transactions for which the building or dropping of an index waits. A prepared transaction has process 0.
	blockersStatement = describedBlocker + `pg_stat_activity AS blocked CROSS JOIN LATERAL unnest(pg_blocking_pids(blocked.pid)) AS by (pid)
LEFT JOIN pg_stat_activity AS a ON a.pid = by.pid
WHERE blocked.datname = current_database() AND blocked.usename = current_user AND blocked.pid <> pg_backend_pid()
	AND blocked.query ~ '(CREATE|DROP) (UNIQUE )?INDEX CONCURRENTLY'
ORDER BY 1, 2 LIMIT 3`
)

// describe returns what an operator needs to find and end each transaction. A role that is not a member of pg_read_all_stats sees only the
// process and the application of another role's transaction.
func (m *migrator) describe(ctx context.Context, statement string, args ...any) []string {
	rows, err := m.db.QueryContext(ctx, statement, args...)
	if err != nil {
		return []string{"unknown: " + err.Error()}
	}
	defer func() { _ = rows.Close() }()
	var found []string
	for rows.Next() {
		var since sql.NullTime
		var pid sql.NullInt64
		var role, application, state, query string
		var age float64
		if err := rows.Scan(&since, &pid, &role, &application, &state, &age, &query); err != nil {
			return []string{"unknown: " + err.Error()}
		}
		if pid.Int64 == 0 {
			found = append(found, "a prepared transaction (see pg_prepared_xacts)")
			continue
		}
		found = append(found, fmt.Sprintf("pid %d (%s, role %s) %s, transaction %.1fs old, last statement: %s",
			pid.Int64, application, role, state, age, query))
	}
	if err := rows.Err(); err != nil {
		return []string{"unknown: " + err.Error()}
	}
	return found
}
