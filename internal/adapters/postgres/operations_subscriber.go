package postgres

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Operator carries out what operators decide about subscribers.
type Operator struct {
	db          *bun.DB
	idleTimeout time.Duration
}

var _ inbox.Operator = (*Operator)(nil)

// NewOperator returns an operator of the subscribers in db.
func NewOperator(db *bun.DB) *Operator { return &Operator{db: db, idleTimeout: defaultIdleTimeout} }

const (
	// lockKnownStatement locks the row of a subscriber. If a program of an earlier version began the subscriber, the row is missing, and
	// the statement inserts it. The statement sets the key column. Therefore it waits for redeliveries, which hold a key share of the row,
	// and no other redelivery begins until the commit.
	lockKnownStatement = `
INSERT INTO subscribers AS s (subscriber) SELECT ?0
WHERE EXISTS (SELECT FROM subscribers WHERE subscriber = ?0) OR EXISTS (SELECT FROM subscriber_lanes WHERE subscriber = ?0)
	OR EXISTS (SELECT FROM inbox WHERE subscriber = ?0) OR EXISTS (SELECT FROM dead_letters WHERE subscriber = ?0)
ON CONFLICT (subscriber) DO UPDATE SET subscriber = excluded.subscriber
RETURNING s.forgotten_at IS NOT NULL, set_config('idle_in_transaction_session_timeout', ?1, true)`

	// lockAndReadLanesStatement waits for the batches that are under way, and then reads the lanes.
	lockAndReadLanesStatement = `
SELECT lane, lanes, stream, sequence, stored_ns, coalesce(progress, 0), revision FROM subscriber_lanes
WHERE subscriber = ?0 ORDER BY lane FOR UPDATE`

	pauseStatement            = "UPDATE subscribers SET paused_at = coalesce(paused_at, clock_timestamp()) WHERE subscriber = ?0"
	resumeSubscriberStatement = "UPDATE subscribers SET paused_at = NULL WHERE subscriber = ?0"
)

// lockKnown locks the row of a subscriber until the transaction ends. If this process freezes meanwhile, Postgres ends the transaction.
func (o *Operator) lockKnown(ctx context.Context, tx bun.Tx, subscriber string) (forgotten bool, err error) {
	timeout := strconv.FormatInt(max(1, o.idleTimeout.Milliseconds()), 10)
	err = tx.QueryRowContext(ctx, lockKnownStatement, subscriber, timeout).Scan(&forgotten, new(string))
	if errors.Is(err, sql.ErrNoRows) {
		return false, inbox.ErrNoSubscriber.With("there is no subscriber %s", subscriber)
	}
	return forgotten, classify(ctx, err)
}

// decide changes a decision about a subscriber, while no batch and no redelivery of the subscriber is under way. Afterwards each lane has a
// new revision, so a batch that began before cannot commit.
func (o *Operator) decide(
	ctx context.Context, subscriber string, change func(ctx context.Context, tx bun.Tx, lanes []inbox.Checkpoint) error,
) error {
	return withYield(allow(ctx, operatorTime), o.db, subscriber, func(ctx context.Context, tx bun.Tx) error {
		forgotten, err := o.lockKnown(ctx, tx, subscriber)
		if err != nil {
			return err
		}
		if forgotten {
			return forgottenError(subscriber)
		}
		lanes, err := lockAndReadLanes(ctx, tx, subscriber)
		if err != nil {
			return err
		}
		if err := change(ctx, tx, lanes); err != nil {
			return err
		}
		return revise(ctx, tx, subscriber)
	})
}

// lockAndReadLanes locks all lanes of a subscriber, in order.
func lockAndReadLanes(ctx context.Context, tx bun.Tx, subscriber string) (lanes []inbox.Checkpoint, err error) {
	rows, err := tx.QueryContext(ctx, lockAndReadLanesStatement, subscriber)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var lane inbox.Checkpoint
		var sequence, storedAt, progress int64
		if err := rows.Scan(&lane.Lane, &lane.Lanes, &lane.Stream, &sequence, &storedAt, &progress, &lane.Revision); err != nil {
			return nil, classify(ctx, err)
		}
		lane.StreamPosition = newStreamPosition(sequence, storedAt, progress)
		lanes = append(lanes, lane)
	}
	return lanes, classify(ctx, rows.Err())
}

// Pause waits for the batches and redeliveries under way.
func (o *Operator) Pause(ctx context.Context, subscriber string) error {
	return o.decide(ctx, subscriber, func(ctx context.Context, tx bun.Tx, _ []inbox.Checkpoint) error {
		return run(ctx, tx, pauseStatement, subscriber)
	})
}

// Resume seldom waits, because a paused subscriber begins no batch and no redelivery.
func (o *Operator) Resume(ctx context.Context, subscriber string) error {
	return o.decide(ctx, subscriber, func(ctx context.Context, tx bun.Tx, _ []inbox.Checkpoint) error {
		return run(ctx, tx, resumeSubscriberStatement, subscriber)
	})
}

// run runs a statement in a transaction, and ignores the result.
func run(ctx context.Context, tx bun.Tx, statement string, args ...any) error {
	_, err := tx.ExecContext(ctx, statement, args...)
	return classify(ctx, err)
}

const (
	// forgetSubscriberStatement marks the subscriber's row as a tombstone.
	forgetSubscriberStatement = `
UPDATE subscribers SET forgotten_at = coalesce(forgotten_at, clock_timestamp()), handler = NULL, paused_at = NULL, yields_until = NULL, filled = 0, missed = 0
WHERE subscriber = ?0`

	// tombstone locks the tombstone until the statement ends, so that nobody removes it meanwhile.
	tombstone = "SELECT FROM subscribers WHERE subscriber = ?0 AND forgotten_at IS NOT NULL FOR KEY SHARE"

	// eraseLettersStatement locks letters in the order of their positions, as every transaction does.
	eraseLettersStatement = `
WITH tombstone AS (` + tombstone + `), chosen AS (
	SELECT event_id FROM dead_letters WHERE subscriber = ?0 AND EXISTS (SELECT FROM tombstone) ORDER BY position, event_id LIMIT ?1 FOR UPDATE
), gone AS (
	DELETE FROM dead_letters WHERE subscriber = ?0 AND event_id IN (SELECT event_id FROM chosen) RETURNING event_id
)
SELECT EXISTS (SELECT FROM tombstone), (SELECT count(*) FROM gone)`

	eraseInboxStatement = `
WITH tombstone AS (` + tombstone + `), chosen AS (
	SELECT event_id FROM inbox WHERE subscriber = ?0 AND EXISTS (SELECT FROM tombstone) ORDER BY event_id LIMIT ?1 FOR UPDATE
), gone AS (
	DELETE FROM inbox WHERE subscriber = ?0 AND event_id IN (SELECT event_id FROM chosen) RETURNING event_id
)
SELECT EXISTS (SELECT FROM tombstone), (SELECT count(*) FROM gone)`

	// lockTombstoneStatement returns whether there is a tombstone, and whether other rows of the subscriber are left.
	lockTombstoneStatement = `
SELECT s.forgotten_at IS NOT NULL, EXISTS (SELECT FROM inbox WHERE subscriber = ?0) OR EXISTS (SELECT FROM dead_letters WHERE subscriber = ?0)
	OR EXISTS (SELECT FROM subscriber_lanes WHERE subscriber = ?0)
FROM subscribers AS s WHERE s.subscriber = ?0 FOR UPDATE`
)

// subscriberTables are the tables that Forget empties. The lanes are among them, and are locked before.
var subscriberTables = []string{"subscriber_lanes", "subscriber_marks", "subscriber_types", "subscriber_copies"}

// Forget waits for the batches and redeliveries that are under way. Later no batch can commit, because its lane is gone, and no redelivery
// can begin, because it sees the tombstone.
func (o *Operator) Forget(ctx context.Context, subscriber string) error {
	return withYield(allow(ctx, operatorTime), o.db, subscriber, func(ctx context.Context, tx bun.Tx) error {
		if _, err := o.lockKnown(ctx, tx, subscriber); err != nil {
			return err
		}
		if err := lockLanes(ctx, tx, subscriber); err != nil {
			return err
		}
		for _, table := range subscriberTables {
			if err := run(ctx, tx, "DELETE FROM "+table+" WHERE subscriber = ?0", subscriber); err != nil { //nolint:gosec // the names are constants
				return err
			}
		}
		return run(ctx, tx, forgetSubscriberStatement, subscriber)
	})
}

// Erase runs one statement. It deletes letters, or, if there are none, rows of inbox.
func (o *Operator) Erase(ctx context.Context, subscriber string, limit int) (erased int, err error) {
	for _, statement := range []string{eraseLettersStatement, eraseInboxStatement} {
		forgotten := false
		err := o.db.QueryRowContext(allow(ctx, operatorTime), statement, subscriber, limit).Scan(&forgotten, &erased)
		if err != nil {
			return 0, classify(ctx, err)
		}
		if !forgotten {
			return 0, inbox.ErrNotForgotten.With("subscriber %s is not forgotten", subscriber)
		}
		if erased > 0 {
			return erased, nil
		}
	}
	return 0, nil
}

// RemoveTombstone deletes the subscriber's row. It also deletes rows of copies that had not seen the tombstone yet.
func (o *Operator) RemoveTombstone(ctx context.Context, subscriber string) error {
	return transact(allow(ctx, operatorTime), o.db, func(ctx context.Context, tx bun.Tx) error {
		forgotten, left := false, false
		err := tx.QueryRowContext(ctx, lockTombstoneStatement, subscriber).Scan(&forgotten, &left)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return inbox.ErrNoSubscriber.With("there is no subscriber %s", subscriber)
		case err != nil:
			return classify(ctx, err)
		case !forgotten:
			return inbox.ErrNotForgotten.With("subscriber %s is not forgotten", subscriber)
		case left:
			return inbox.ErrNotErased.With("rows of the forgotten subscriber %s are left", subscriber)
		}
		for _, table := range slices.Concat(subscriberTables[1:], []string{"subscribers"}) {
			if err := run(ctx, tx, "DELETE FROM "+table+" WHERE subscriber = ?0", subscriber); err != nil { //nolint:gosec // the names are constants
				return err
			}
		}
		return nil
	})
}

// sinceMicroseconds returns the duration for a number of microseconds from a statement.
func sinceMicroseconds(microseconds int64) time.Duration {
	return max(0, time.Duration(microseconds)*time.Microsecond)
}
