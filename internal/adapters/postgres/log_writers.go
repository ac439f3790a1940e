package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const (
	firstPoll = time.Millisecond
	lastPoll  = 20 * time.Millisecond
)

// writersStatement lists the holders of the writer lock on the outbox. It takes no lock and never waits. It always returns a row, because
// the row also says whether the server is a standby.
const writersStatement = `
SELECT pg_is_in_recovery(), l.virtualtransaction, l.pid
FROM (SELECT) AS always LEFT JOIN pg_locks AS l
	ON l.locktype = 'relation' AND l.relation = 'outbox'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
	AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// writers are transactions by their virtual id. A prepared transaction has no process.
type writers map[string]writer

type writer struct{ prepared bool }

func (l *Log) writers(ctx context.Context) (writers, error) {
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	rows, err := l.db.QueryContext(ctx, writersStatement)
	if err != nil {
		return nil, fmt.Errorf("list the outbox's writers: %w", err)
	}
	defer func() { _ = rows.Close() }()
	found := make(writers)
	for rows.Next() {
		var standby bool
		var id sql.NullString
		var pid sql.NullInt64
		if err := rows.Scan(&standby, &id, &pid); err != nil {
			return nil, fmt.Errorf("list the outbox's writers: %w", err)
		}
		if standby {
			return nil, errStandby
		}
		if id.Valid {
			found[id.String] = writer{prepared: !pid.Valid}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the outbox's writers: %w", err)
	}
	return found, nil
}

// awaitWriters lists the transactions that write to the outbox at the time of the call, and returns when all of them have ended. A
// transaction that began later cannot fill a gap below seen. awaitWriters also waits for each prepared transaction that appears later. Such
// a transaction may be an earlier one with a new id: the id changes when the transaction is prepared, or when the server restarts.
func (l *Log) awaitWriters(ctx context.Context, seen outbox.Position) error {
	open, err := l.writers(ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	since := time.Now()
	l.waits.Add(1)
	l.waiting.Store(&since)
	defer func() {
		l.waiting.Store(nil)
		l.waited.Add(int64(time.Since(since)))
	}()

	warnAfter, pause := l.warnAfter, firstPoll
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		current, err := l.writers(ctx)
		if err != nil {
			return err
		}
		for id, w := range current {
			if _, known := open[id]; !known && !w.prepared {
				delete(current, id)
			}
		}
		if open = current; len(open) == 0 {
			return nil
		}
		if waited := time.Since(since); waited >= warnAfter {
			l.warn(ctx, open, seen, waited)
			warnAfter *= 2
		}
		pause = min(pause*2, lastPoll)
		timer.Reset(pause)
	}
}

// describeStatement describes the holders of locks on the outbox, so that an operator can find and end them. The oldest transaction comes
// first. The statement recognizes a prepared transaction by the lock on the transaction's own id. A role that is not a member of
// pg_read_all_stats sees only the process and the application of another role's transaction.
const describeStatement = `
SELECT l.virtualtransaction, coalesce(l.pid, 0), coalesce(p.gid, ''),
	CASE WHEN l.pid IS NULL THEN 'prepared' ELSE coalesce(a.state, 'unknown') END, coalesce(a.xact_start, p.prepared),
	coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)), 0),
	coalesce(a.application_name, ''), coalesce(left(a.query, 120), '')
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN (
	SELECT x.virtualtransaction, p.gid, p.prepared
	FROM pg_prepared_xacts AS p JOIN pg_locks AS x ON x.locktype = 'transactionid' AND x.transactionid = p.transaction
		AND x.pid IS NULL AND x.granted
) AS p ON l.pid IS NULL AND p.virtualtransaction = l.virtualtransaction
WHERE l.locktype = 'relation' AND l.relation = 'outbox'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
	AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 5`

// describedWriter is a holder of a lock on the outbox, with its virtual id.
type describedWriter struct {
	operations.OpenTransaction
	id  string
	age float64 // in seconds
}

func describeWriters(ctx context.Context, db *bun.DB) ([]describedWriter, error) {
	rows, err := db.QueryContext(ctx, describeStatement)
	if err != nil {
		return nil, fmt.Errorf("describe the outbox's writers: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var found []describedWriter
	for rows.Next() {
		var w describedWriter
		var since sql.NullTime
		if err := rows.Scan(&w.id, &w.Session, &w.Prepared, &w.State, &since, &w.age, &w.Application, &w.Query); err != nil {
			return nil, fmt.Errorf("describe the outbox's writers: %w", err)
		}
		w.Since = since.Time
		found = append(found, w)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("describe the outbox's writers: %w", err)
	}
	return found, nil
}

// warn logs the transactions for which the log waits.
func (l *Log) warn(ctx context.Context, open writers, seen outbox.Position, waited time.Duration) {
	l.logger.WarnContext(ctx, "the outbox waits for open transactions",
		slog.Duration("waited", waited), slog.Int64("up_to_position", int64(seen)), slog.Any("blocked_by", l.describe(ctx, open)))
}

func (l *Log) describe(ctx context.Context, open writers) []string {
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	found, err := describeWriters(ctx, l.db)
	if err != nil {
		return []string{"unknown: " + err.Error()}
	}
	var described []string
	for _, w := range found {
		if _, blocks := open[w.id]; !blocks {
			continue
		}
		if w.Session == 0 {
			described = append(described, fmt.Sprintf("prepared transaction %q, %.1fs old", w.Prepared, w.age))
		} else {
			described = append(described, fmt.Sprintf("pid %d (%s) %s, transaction %.1fs old, last statement: %s",
				w.Session, w.Application, w.State, w.age, w.Query))
		}
	}
	return described
}
