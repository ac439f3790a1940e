package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/migrations"
)

// Set is a group of tables. It has its own migrations, version table and migration lock.
type Set string

// The sets. A process needs the sets whose tables it uses. The relay uses the engine's tables, everything else uses both sets.
const (
	EngineTables  Set = "engine"  // the outbox, and all that relaying and subscribing need
	ServiceTables Set = "service" // the orders, their idempotency keys, and the sample effect of a subscriber
)

// Sets returns every set, in the order in which they are migrated.
func Sets() []Set { return []Set{EngineTables, ServiceTables} }

func (s Set) files() (fs.FS, error) {
	all := map[Set]embed.FS{EngineTables: migrations.Engine, ServiceTables: migrations.Service}
	files, known := all[s]
	if !known {
		return nil, fmt.Errorf("there is no set of migrations %q", s)
	}
	return fs.Sub(files, string(s))
}

func (s Set) versionTable() string { return "outboxie_" + string(s) + "_migrations" }
func (s Set) lockTable() string    { return "outboxie_" + string(s) + "_migration_lock" }

// tables are the tables for which a migration of the set may have to wait.
func (s Set) tables() []string {
	if s == ServiceTables {
		return serviceTables
	}
	return append([]string{"outbox_halts", "subscriber_marks", "subscriber_copies"}, durableTables...)
}

// migrator changes the tables of one set.
type migrator struct {
	db     *bun.DB
	set    Set
	logger *slog.Logger
}

func newMigrator(db *bun.DB, set Set, logger *slog.Logger) (*migrator, error) {
	if db.Stats().MaxOpenConnections == 1 {
		return nil, errors.New("migrations need a pool of at least two connections")
	}
	return &migrator{db: db, set: set, logger: logger}, nil
}

// provider returns goose for the set. It also keeps the old version table up to date if that table is ours.
func (m *migrator) provider(known versionState) (*goose.Provider, error) {
	files, err := m.set.files()
	if err != nil {
		return nil, err
	}
	store, err := database.NewStore(database.DialectPostgres, m.set.versionTable())
	if err != nil {
		return nil, err
	}
	locker, err := m.locker(known.legacy)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider("", m.db.DB, files, goose.WithLocker(locker), goose.WithSlog(m.logger),
		goose.WithStore(&versionStore{Store: store, legacy: known.legacy}), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read the %s's migrations: %w", m.set, err)
	}
	return provider, nil
}

// The migration lock is a row with a lease, which its holder renews. So the lock needs no session. If the holder dies, the lock is free
// when the lease ends.
const (
	migrationLease     = 10 * time.Second
	migrationHeartbeat = 2 * time.Second
	migrationPoll      = 100 * time.Millisecond
	migrationUnlocks   = 10
	// waitNoticed is how long a wait lasts before the log mentions it. lastNotice is the longest time until the log mentions it again.
	waitNoticed = time.Second
	lastNotice  = time.Minute
)

// locker returns the set's migration lock. With legacy it also keeps programs of earlier versions from migrating.
func (m *migrator) locker(legacy bool) (lock.Locker, error) {
	locks := migrationLocks{newTableLock(m.db, m.set.lockTable(), m.logger)}
	if legacy {
		locks = append(locks, newTableLock(m.db, lock.DefaultLockTableName, m.logger))
	}
	for _, l := range locks {
		var err error
		if l.Locker, err = lock.NewPostgresTableLocker(
			lock.WithTableName(l.table),
			lock.WithTableLeaseDuration(migrationLease),
			lock.WithTableHeartbeatInterval(migrationHeartbeat),
			lock.WithTableLockTimeout(migrationPoll, math.MaxUint32), // so the wait ends only with the context
			lock.WithTableUnlockTimeout(migrationPoll, migrationUnlocks),
			lock.WithTableRetryPolicy(l.retry),
			lock.WithTableLogger(slog.New(slog.DiscardHandler)), // the returned error has the same text
		); err != nil {
			return nil, fmt.Errorf("set up the migration lock: %w", err)
		}
	}
	return locks, nil
}

// migrationLocks are one or more locks. They are taken in order.
type migrationLocks []*tableLock

var _ lock.Locker = migrationLocks(nil)

// Lock takes all locks, or none.
func (l migrationLocks) Lock(ctx context.Context, db *sql.DB) error {
	for i, held := range l {
		if err := held.Lock(ctx, db); err != nil {
			return errors.Join(err, l[:i].Unlock(ctx, db))
		}
	}
	return nil
}

// Unlock releases all locks.
func (l migrationLocks) Unlock(ctx context.Context, db *sql.DB) error {
	var failed []error
	for _, held := range l {
		failed = append(failed, held.Unlock(ctx, db))
	}
	return errors.Join(failed...)
}

// tableLock is goose's lock in a table. While it waits, it also logs who holds the lock.
type tableLock struct {
	lock.Locker
	db     *bun.DB
	table  string
	logger *slog.Logger
	wait   wait
}

func newTableLock(db *bun.DB, table string, logger *slog.Logger) *tableLock {
	return &tableLock{db: db, table: table, logger: logger}
}

// Lock waits until nobody else holds the lock, or ctx ends.
func (l *tableLock) Lock(ctx context.Context, db *sql.DB) error {
	l.wait = wait{ctx: ctx, since: time.Now(), next: waitNoticed}
	return l.Locker.Lock(allow(ctx, usualTime), db)
}

// Unlock releases the lock.
func (l *tableLock) Unlock(ctx context.Context, db *sql.DB) error {
	return l.Locker.Unlock(allow(ctx, usualTime), db)
}

// heldByAnother is goose's text for a lock that is held. TestMigrationsMayBeStartedByManyAtOnce fails when goose changes this text.
const heldByAnother = "already held by another instance"

// retry reports whether the lock is held, so that another try may help. Any other error goes to the caller.
func (l *tableLock) retry(err error) bool {
	if !strings.Contains(err.Error(), heldByAnother) {
		return false
	}
	if waited, due := l.wait.due(); due {
		var holder sql.NullString
		query := "SELECT locked_by FROM ? WHERE locked"
		if err := l.db.QueryRowContext(l.wait.ctx, query, bun.Ident(l.table)).Scan(&holder); err != nil {
			holder.String = "unknown: " + err.Error()
		}
		l.logger.WarnContext(l.wait.ctx, "another process migrates the database, waiting until it has finished",
			"waited", waited.Round(time.Millisecond), "lock", l.table, "held_by", holder.String)
	}
	return true
}

// wait decides when a wait is logged: first after the duration next, and again whenever the wait has doubled, or after lastNotice.
type wait struct {
	ctx   context.Context
	since time.Time
	next  time.Duration
}

func (w *wait) due() (waited time.Duration, due bool) {
	waited = time.Since(w.since)
	if waited < w.next {
		return waited, false
	}
	w.next = waited + min(waited, lastNotice)
	return waited, true
}
