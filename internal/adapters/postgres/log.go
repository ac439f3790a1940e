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
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// errStandby reports that a connection leads to a standby, which only follows another server. After a switchover this lasts until the name
// in DATABASE_URL leads to the new primary.
var errStandby = fault.New(fault.Unavailable, "database_standby",
	"the server is a standby, which takes no writes and does not show open transactions: point DATABASE_URL at the primary, or promote the standby")

// Log reads the outbox table in commit-safe order. One relay reads it at a time.
//
// Postgres gives out positions before the commit. So a missing position belongs to an open transaction, or stays empty for ever. Only a
// transaction that holds the table's writer lock after the gap was seen can still fill the gap. INSERT takes that lock before it gets the
// position, and keeps the lock until the transaction has ended. So once these transactions have ended, a new snapshot shows every row up to
// the highest position that was seen. Other transactions do not matter, however long they are open.
type Log struct {
	db           *bun.DB
	relay        string
	logger       *slog.Logger
	waiting      atomic.Pointer[time.Time] // since when After has been waiting for writers
	waits        atomic.Int64
	waited       atomic.Int64 // nanoseconds of all waits that are over
	sizes        sizes
	noPooler     atomic.Bool  // the connections lead to Postgres itself, not to a pooler
	verification verification // what Verify found last
	foundEmpty   bool         // the last read found no row, not even the row that was published last

	// await returns when no gap below seen can be filled any more.
	await     func(ctx context.Context, seen outbox.Position) error
	within    time.Duration // the limit of each statement; After may take longer, because it waits for writers
	warnAfter time.Duration // a wait is logged after this time, and again whenever it has doubled
}

var _ relay.Log = (*Log)(nil)

// NewLog returns the log for relay. The relay's cursor says up to which position retention may have removed rows.
func NewLog(db *bun.DB, relay string, logger *slog.Logger) *Log {
	l := &Log{db: db, relay: relay, logger: logger, within: answerWithin, warnAfter: time.Second}
	l.await = l.awaitWriters
	return l
}

// After waits for open transactions only if the position directly after from is missing.
func (l *Log) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	page, err := l.read(ctx, from, limit, maxPosition)
	if err != nil || len(page.Entries) == 0 {
		return page, classify(ctx, err)
	}
	if settled := dense(from.Position, page.Entries); settled > 0 {
		more := page.More || settled < len(page.Entries)
		return relay.Page{Entries: page.Entries[:settled], More: more}, nil
	}
	seen := page.Entries[len(page.Entries)-1].Position
	if err := l.await(ctx, seen); err != nil {
		return relay.Page{}, classify(ctx, err)
	}
	page, err = l.read(ctx, from, limit, seen)
	page.More = true
	return page, classify(ctx, err)
}

// OldestWait returns how long After has been waiting for open transactions; 0: it does not wait. It is safe for concurrent use.
func (l *Log) OldestWait() time.Duration {
	if since := l.waiting.Load(); since != nil {
		return time.Since(*since)
	}
	return 0
}

// Waits returns how often After has waited for open transactions since the start, and for how long in total. A wait that is still under way
// does not add to the total. Waits is safe for concurrent use.
func (l *Log) Waits() (count int64, total time.Duration) {
	return l.waits.Load(), time.Duration(l.waited.Load())
}

// dense returns how many entries follow position before the first gap.
func dense(position outbox.Position, entries []outbox.Entry) int {
	for i := range entries {
		if entries[i].Position != position+outbox.Position(i)+1 {
			return i
		}
	}
	return len(entries)
}

const maxPosition outbox.Position = 1<<63 - 1

// read returns the rows after from and up to the position to, within the limit, whether there are gaps or not. It checks that the log still
// holds the event of from.
func (l *Log) read(ctx context.Context, from outbox.Progress, limit relay.ReadLimit, to outbox.Position) (page relay.Page, err error) {
	defer func() { l.sizes.learn(page.Entries, err) }()
	page, err = l.verifiedRows(ctx, from, limit, to)
	if err == nil {
		explaining, cancel := context.WithTimeout(ctx, l.within)
		defer cancel()
		err = explain(explaining, l.db, page.Entries, limit.LargestPayload())
	}
	if err != nil {
		return relay.Page{}, fmt.Errorf("read the outbox after %d: %w", from.Position, err)
	}
	return page, nil
}

func (l *Log) verifiedRows(ctx context.Context, from outbox.Progress, limit relay.ReadLimit, to outbox.Position) (page relay.Page, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	if l.foundEmpty { // with an empty log, an idle leader sends one statement instead of two
		purgedTo, last, err := l.extent(ctx)
		if err == nil && from.Position <= purgedTo && (last == 0 || last < from.Position) {
			return page, nil
		}
	}
	page, err = l.rows(ctx, from.Position, limit, to)
	if err == nil {
		l.foundEmpty = len(page.Entries) == 0
		page.Entries, err = l.verified(ctx, from, page.Entries)
	}
	return page, err
}

// verified removes the row at from, if it is there, and checks that it holds the event of from.
func (l *Log) verified(ctx context.Context, from outbox.Progress, entries []outbox.Entry) ([]outbox.Entry, error) {
	if len(entries) > 0 {
		switch first := entries[0]; {
		case from.Position == 0:
			return entries, nil
		case first.Position == from.Position && first.ID == from.EventID:
			return entries[1:], nil
		case first.Position == from.Position:
			return nil, historyLost(from, sql.NullString{String: first.ID, Valid: true})
		}
	}
	purgedTo, _, err := l.extent(ctx)
	if err == nil && from.Position > purgedTo {
		err = historyLost(from, sql.NullString{})
	}
	return entries, err
}

// extent returns the position up to which rows may be missing, and the position of the last row, or 0. Call it after a read has missed the
// row that was published last. Retention removes only rows that exist and that the relay has passed. So purged_to cannot have reached the
// missed row since that read.
func (l *Log) extent(ctx context.Context) (purgedTo, last outbox.Position, err error) {
	var standby bool
	err = l.db.QueryRowContext(ctx, `SELECT pg_is_in_recovery(),
		coalesce((SELECT purged_to FROM outbox_cursor WHERE relay = ?), 0), coalesce((SELECT max(position) FROM outbox), 0)`, l.relay).
		Scan(&standby, &purgedTo, &last)
	if err == nil && standby {
		err = errStandby
	}
	return purgedTo, last, err
}
