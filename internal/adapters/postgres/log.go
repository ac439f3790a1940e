package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

var errStandby = fault.New(fault.Unavailable, "database_standby", "the database is a standby, which shows no writers")

// Log reads the outbox table in commit-safe order. One relay reads it at a time.
//
// Positions are dealt before commit, so a missing one is either still being written or dead. Log asks who can still fill
// the gap: whoever held the table's writer lock after the gap was seen. INSERT takes that lock before the position is
// dealt and keeps it until the row is visible or dead; so once those holders are gone, a new snapshot shows everything up
// to the highest position that was seen. Other transactions, however long, do not matter.
type Log struct {
	db      *bun.DB
	relay   string
	logger  *slog.Logger
	waiting atomic.Pointer[time.Time] // since when After has been waiting for writers
	waits   atomic.Int64
	waited  atomic.Int64 // nanoseconds, of waits that are over
	sizes   sizes

	// await returns when no gap below seen can be filled any more.
	await     func(ctx context.Context, seen outbox.Position) error
	within    time.Duration // each statement is answered; After may take longer, for it waits for writers
	warnAfter time.Duration // a wait is reported after this long, and again whenever it has doubled
}

var _ ports.Log = (*Log)(nil)

// NewLog returns the log as relay reads it; retention tells in the relay's cursor up to where rows may be missing.
func NewLog(db *bun.DB, relay string, logger *slog.Logger) *Log {
	l := &Log{db: db, relay: relay, logger: logger, within: answerWithin, warnAfter: time.Second}
	l.await = l.awaitWriters
	return l
}

// After implements the port.
func (l *Log) After(ctx context.Context, from outbox.Progress, limit outbox.Slice) ([]outbox.Entry, error) {
	entries, err := l.read(ctx, from, limit, maxPosition)
	if err != nil || len(entries) == 0 {
		return nil, classify(ctx, err)
	}
	if settled := dense(from.Position, entries); settled > 0 {
		return entries[:settled], nil
	}
	seen := entries[len(entries)-1].Position
	if err := l.await(ctx, seen); err != nil {
		return nil, classify(ctx, err)
	}
	entries, err = l.read(ctx, from, limit, seen)
	return entries, classify(ctx, err)
}

// OldestWait is how long After has been waiting for open transactions; 0 when it does not wait. It may be called at any
// time.
func (l *Log) OldestWait() time.Duration {
	if since := l.waiting.Load(); since != nil {
		return time.Since(*since)
	}
	return 0
}

// Waits tells how often After has waited for open transactions since the start, and for how long all in all, without the
// wait that is under way. It may be called at any time.
func (l *Log) Waits() (count int64, total time.Duration) {
	return l.waits.Load(), time.Duration(l.waited.Load())
}

// dense is how many entries follow position without a gap.
func dense(position outbox.Position, entries []outbox.Entry) int {
	for i := range entries {
		if entries[i].Position != position+outbox.Position(i)+1 {
			return i
		}
	}
	return len(entries)
}

const maxPosition outbox.Position = 1<<63 - 1

// readStatement reads, in one snapshot, the row that was dealt with last, what follows it, and up to where rows may be
// missing. It is as plain as it can be, because it is planned anew each time: around the same rows, an outer join that always
// gives a row and a window over their sizes cost three times as much for one row, and twice for a thousand. Whether a row is
// in the parking lot is not asked with EXISTS, for which Postgres may read the whole lot into a hash table.
const readStatement = `
SELECT pg_is_in_recovery(), (SELECT purged_to FROM outbox_cursor WHERE relay = ?0),
	(SELECT true FROM outbox_parked AS p WHERE p.position = o.position) IS NOT NULL, ` + entryColumns + `
FROM outbox AS o WHERE o.position >= ?1 ORDER BY o.position LIMIT ?2`

// nothingStatement asks the same where there is no row.
const nothingStatement = `SELECT pg_is_in_recovery(), (SELECT purged_to FROM outbox_cursor WHERE relay = ?0)`

// read returns what stands after from up to a position, gaps or not, within the limit, after checking that the log is
// the one that from was taken from.
func (l *Log) read(
	ctx context.Context, from outbox.Progress, limit outbox.Slice, to outbox.Position,
) (entries []outbox.Entry, err error) {
	defer func() { l.sizes.learn(entries, err) }()
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	limit.Count = l.sizes.candidates(limit)
	entries, purgedTo, err := l.rows(ctx, from.Position, limit, to)
	if err == nil && len(entries) == 0 {
		var standby bool
		err = l.db.QueryRowContext(ctx, nothingStatement, l.relay).Scan(&standby, &purgedTo)
		if err == nil && standby {
			err = errStandby
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the outbox after %d: %w", from.Position, err)
	}
	return verified(from, entries, outbox.Position(purgedTo.Int64))
}

// rows reads the row at a position and those after it. The limit is for those after it; what does not fit is not kept.
func (l *Log) rows(
	ctx context.Context, at outbox.Position, limit outbox.Slice, to outbox.Position,
) (entries []outbox.Entry, purgedTo sql.NullInt64, err error) {
	rows, err := l.db.QueryContext(ctx, readStatement, l.relay, int64(at), limit.Count+1)
	if err != nil {
		return nil, purgedTo, err
	}
	defer func() { _ = rows.Close() }()

	entries = make([]outbox.Entry, 0, min(limit.Count, 1024)+1)
	var standby, parked bool
	var row logRow
	columns := append([]any{&standby, &purgedTo, &parked}, row.columns()...)
	for count, bytes := 0, 0; rows.Next(); {
		if err := rows.Scan(columns...); err != nil {
			return nil, purgedTo, err
		}
		entry, err := row.entry()
		switch {
		case standby:
			return nil, purgedTo, errStandby
		case err != nil:
			return nil, purgedTo, err
		case entry.Position > to:
			return entries, purgedTo, nil
		case entry.Position > at:
			count++
			bytes += len(entry.Payload)
			if count > limit.Count || count > 1 && bytes > limit.Bytes {
				return entries, purgedTo, nil
			}
		}
		entry.Parked = parked
		entries = append(entries, entry)
	}
	return entries, purgedTo, rows.Err()
}

// verified takes the row at from off the entries, if it is there, and judges it.
func verified(from outbox.Progress, entries []outbox.Entry, purgedTo outbox.Position) ([]outbox.Entry, error) {
	if len(entries) > 0 && entries[0].Position == from.Position {
		if id := entries[0].ID; id != from.EventID {
			return nil, ports.ErrHistoryLost.With("position %d of the log holds event %s, but event %q was published from there",
				from.Position, id, from.EventID)
		}
		return entries[1:], nil
	}
	if from.Position > purgedTo {
		return nil, ports.ErrHistoryLost.With("the log has no row at position %d, from where event %q was published",
			from.Position, from.EventID)
	}
	return entries, nil
}
