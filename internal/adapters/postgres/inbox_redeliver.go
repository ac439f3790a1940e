package postgres

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.DeadLetters = (*Inbox)(nil)

// Redeliver locks the head, which is the aggregate's first pending letter, and then the letters behind it. The isolation is READ
// COMMITTED, so each statement sees what was committed before it began, and a lock gives the newest version of its row. Order and once
// hold beside other transactions, for these reasons.
//
// Another Redeliver: a transaction that works on an aggregate has locked its head. The other one does not wait for that lock: it chooses another
// aggregate. It may have chosen a later letter only if its snapshot has no earlier one that is pending. What its snapshot no longer has is
// committed, with its effect. The second statement looks for earlier letters again, after the head is locked.
//
// The lane inserts letters of the aggregate at any time, and looks at no lock. It holds an event if its snapshot has a pending letter of
// the aggregate. If Redeliver has committed the last one before that snapshot, the event is applied, after the effects of the letters. If
// not, the event becomes a letter, and nothing of the aggregate passes it: it is in the snapshot of each later transaction of the lane. Its
// row may say that it waits while nothing is before it any more; promoteHeads finds such rows. An event that has a letter has a row in inbox
// too, so the lane drops the event when it comes again.
//
// Discard and Retry, of one letter or many, lock the letter. A letter that they have locked first is discarded or dead when Redeliver gets the lock,
// and is left out. If Redeliver was first, they wait, and find no letter, or the one that failed.
//
// Programs of before lock a letter before they apply, change or end it, and before they write its row in inbox. They find no letter
// after this transaction, and then do nothing, because the row in inbox is there. They apply any letter whose row says 'retrying', so rows
// behind a pending letter say 'waiting'.
//
// Locks of one aggregate's letters are taken in the order of the positions, then rows of totals, then rows of inbox; hints wait for no
// lock. With one exception, no transactions wait for each other: a careful Redeliver changes totals in the order of the letters. If that
// meets a lane, Postgres ends one of the two, which is a fault.Unavailable.
func (i *Inbox) Redeliver(
	ctx context.Context, subscriber string, r inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (done inbox.Redelivered, found bool, err error) {
	if i.promotionDue() {
		if _, err := i.promoteHeads(ctx, subscriber); err != nil {
			return inbox.Redelivered{}, false, err
		}
	}
	for {
		done, found, err = i.redeliver(ctx, subscriber, r, handler, judge)
		if err != nil {
			return inbox.Redelivered{}, false, err
		}
		if found {
			return done, true, nil
		}
		noted, err := i.promoteHeads(ctx, subscriber)
		if err == nil && noted == 0 {
			err = i.endApplied(ctx, subscriber)
		}
		if err != nil || noted == 0 {
			return inbox.Redelivered{}, false, err
		}
	}
}

func (i *Inbox) redeliver(
	ctx context.Context, subscriber string, r inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (done inbox.Redelivered, found bool, err error) {
	err = transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) (err error) {
		d := &redelivery{
			tx: tx, subscriber: subscriber, handler: handler, judge: judge, idle: idleGuard{tx: tx, timeout: i.idleTimeout, lastStatement: time.Now()},
		}
		if found, err = d.choose(ctx, r, strconv.FormatInt(max(1, i.idleTimeout.Milliseconds()), 10)); err != nil || !found {
			return err
		}
		if r.Savepoints {
			err = d.handleEach(ctx)
		} else {
			err = d.handleAll(ctx)
		}
		if err != nil {
			return err
		}
		done = d.done
		return d.end(ctx)
	})
	return done, found, err
}

// redelivery is the work on one aggregate's letters in its transaction.
type redelivery struct {
	tx         bun.Tx
	subscriber string
	handler    inbox.Handler
	judge      inbox.FailurePolicy
	idle       idleGuard

	letters []inbox.Letter // locked, in order
	ended   []string       // ids of the letters that end
	done    inbox.Redelivered
}

// earlier finds a pending letter of the same aggregate before a letter. It is a scalar subquery: the planner must look it up for each
// letter that it looks at, and must not join it to all of them.
const earlier = `(
	SELECT true FROM dead_letters AS earlier
	WHERE earlier.subscriber = letter.subscriber
		AND hashtextextended(earlier.aggregate_id, hashtextextended(earlier.aggregate_type, 0)) =
			hashtextextended(letter.aggregate_id, hashtextextended(letter.aggregate_type, 0))
		AND earlier.aggregate_type = letter.aggregate_type AND earlier.aggregate_id = letter.aggregate_id
		AND earlier.position < letter.position AND earlier.state IN ` + pendingStates + ` LIMIT 1)`

// isHead says that a letter is the first of its aggregate.
const isHead = "letter.position IS NOT NULL AND letter.aggregate_type IS NOT NULL AND letter.aggregate_id IS NOT NULL AND " + earlier + " IS NULL"

const (
	// headStatement first locks the row of the subscriber until the transaction ends, so that an operator who pauses or forgets the subscriber waits.
	// A key share waits for no other key share. The statement chooses nothing if the subscriber is paused, is forgotten, makes way, or has
	// another handler than ?3 because it has begun again. That holds too if it was decided while the statement waited for the row.
	// Then the statement reads the letters that waited for one of the types ?2, by the index dead_letters_no_handler, and then due letters in the
	// order of the index dead_letters_due, until one is the first of its aggregate and free.
	headStatement = `
WITH standing AS (
	SELECT paused_at IS NULL AND forgotten_at IS NULL AND coalesce(yields_until <= clock_timestamp(), true) AND coalesce(handler = ?3, true) AS works
	FROM subscribers WHERE subscriber = ?0 FOR KEY SHARE
), waited AS (
	SELECT letter.aggregate_type, letter.aggregate_id, letter.position FROM dead_letters AS letter
	WHERE coalesce((SELECT works FROM standing), true)
		AND letter.subscriber = ?0 AND letter._no_handler AND letter.event_type = ANY (?2::text[]) AND letter.state = 'dead' AND ` + isHead + `
	LIMIT 1 FOR UPDATE SKIP LOCKED
), due AS (
	SELECT letter.aggregate_type, letter.aggregate_id, letter.position FROM dead_letters AS letter
	WHERE coalesce((SELECT works FROM standing), true) AND NOT EXISTS (SELECT FROM waited)
		AND letter.subscriber = ?0 AND letter.state = 'retrying' AND letter.due_at <= statement_timestamp() AND ` + isHead + `
	ORDER BY letter.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
SELECT head.*, set_config('idle_in_transaction_session_timeout', ?1, true) FROM (SELECT * FROM waited UNION ALL SELECT * FROM due) AS head`

	// lettersStatement locks the letters from the head on.
	lettersStatement = `
SELECT ` + letterColumns + ` FROM dead_letters AS letter
WHERE subscriber = ?0 AND ` + ofAggregate + ` AND position >= ?3 AND state IN ` + pendingStates + `
	AND (SELECT true FROM dead_letters WHERE subscriber = ?0 AND ` + ofAggregate + ` AND position < ?3 AND state IN ` + pendingStates + ` LIMIT 1) IS NULL
ORDER BY position LIMIT ?4 FOR UPDATE OF letter`
)

// choose locks a head and the letters behind it, up to the limit or the first dead one that has a handler. It reports whether there are any.
// If the lane has inserted an earlier letter since the head was chosen, that letter is the head, and choose begins again.
func (d *redelivery) choose(ctx context.Context, r inbox.Redelivery, idleTimeout string) (bool, error) {
	for len(d.letters) == 0 {
		var aggregateType, aggregateID string
		var position int64
		err := d.tx.QueryRowContext(ctx, headStatement, d.subscriber, idleTimeout, pgdialect.Array(r.Types), d.handler.Name()).
			Scan(&aggregateType, &aggregateID, &position, new(string))
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, classify(ctx, err)
		}
		var rows []letterRow
		if err := d.tx.NewRaw(lettersStatement, d.subscriber, aggregateType, aggregateID, position, max(1, r.Limit)).Scan(ctx, &rows); err != nil {
			return false, classify(ctx, err)
		}
		for _, row := range rows {
			if waited := row.NoHandler && slices.Contains(r.Types, row.EventType); row.State == inbox.Dead && !waited {
				break
			}
			d.letters = append(d.letters, row.letter())
		}
	}
	return true, nil
}

// handleAll handles the letters, and writes their effects at once.
func (d *redelivery) handleAll(ctx context.Context) error {
	applied, err := d.applied(ctx)
	if err != nil {
		return err
	}
	effects := newEffects(d.tx, d.subscriber, d.handler)
	defer effects.end()
	for index, letter := range d.letters {
		if !applied[letter.ID] {
			if err := d.handle(ctx, effects, letter); err != nil {
				return &inbox.EventError{Index: index, Err: err}
			}
			d.done.Applied = append(d.done.Applied, letter.Entry)
		}
		d.ended = append(d.ended, letter.ID)
	}
	if err := effects.flush(ctx); err != nil {
		return &inbox.CollectedError{Err: err}
	}
	d.done.Emitted = effects.emitted
	return nil
}

// handleEach handles each letter within a savepoint, until one fails.
func (d *redelivery) handleEach(ctx context.Context) error {
	applied, err := d.applied(ctx)
	if err != nil {
		return err
	}
	for _, letter := range d.letters {
		if !applied[letter.ID] {
			failed, err := d.handleAlone(ctx, letter)
			if err != nil {
				return err
			}
			if failed != nil {
				return d.fail(ctx, letter, failed)
			}
			d.done.Applied = append(d.done.Applied, letter.Entry)
		}
		d.ended = append(d.ended, letter.ID)
	}
	return nil
}

// handleAlone handles a letter within a savepoint. failed is why the handler failed, or why its effects cannot be written: then they are
// undone.
func (d *redelivery) handleAlone(ctx context.Context, letter inbox.Letter) (failed, err error) {
	if err := d.exec(ctx, "SAVEPOINT letter"); err != nil {
		return nil, err
	}
	effects := newEffects(d.tx, d.subscriber, d.handler)
	defer effects.end()
	failed = d.handle(ctx, effects, letter)
	if failed == nil {
		failed = effects.flush(ctx)
	}
	if failed == nil {
		d.done.Emitted += effects.emitted
		return nil, d.exec(ctx, "RELEASE SAVEPOINT letter")
	}
	return failed, d.exec(ctx, "ROLLBACK TO SAVEPOINT letter")
}

// handle calls the handler. Programs of before kept letters of events whose ids are no UUIDs. These have no row in inbox, so nothing
// would say that they were applied.
func (d *redelivery) handle(ctx context.Context, effects *effects, letter inbox.Letter) error {
	if !isUUID(letter.ID) {
		return inbox.ErrPermanent.With("the id %.64q of the event is not a UUID, so it can only be discarded", letter.ID)
	}
	return d.idle.handle(ctx, d.handler, effects, letter.Entry)
}

// applied returns the ids of events whose effect has happened though they have letters. No program leaves such a letter. One that an
// operator has inserted or changed with SQL must not take effect twice.
func (d *redelivery) applied(ctx context.Context) (applied map[string]bool, err error) {
	var ids []string
	for _, letter := range d.letters {
		if isUUID(letter.ID) {
			ids = append(ids, letter.ID)
		}
	}
	rows, err := d.tx.QueryContext(ctx, `SELECT asked.id FROM unnest(?1::text[]) AS asked (id)
		JOIN inbox AS i ON i.subscriber = ?0 AND i.event_id = asked.id::uuid WHERE i.applied_at IS NOT NULL`,
		d.subscriber, pgdialect.Array(ids))
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	applied = make(map[string]bool)
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, classify(ctx, err)
		}
		applied[id] = true
	}
	return applied, classify(ctx, rows.Err())
}

// fail keeps the failure of a letter as the judge says.
func (d *redelivery) fail(ctx context.Context, letter inbox.Letter, cause error) error {
	failure, err := d.judge(letter.Entry, letter.Attempts, cause)
	if err != nil {
		return err
	}
	failed := letter.Failed(failure)
	if failed.DeadAt, err = changeLetter(ctx, d.tx, d.subscriber, failed, failure.Wait); err != nil {
		return err
	}
	d.done.Failed = &failed
	return nil
}

// endStatement deletes letters, and records that their events were applied. Rows in inbox are changed last: the lane waits for a row
// that this transaction has changed when its event comes again.
const endStatement = `
WITH ended AS (
	DELETE FROM dead_letters WHERE subscriber = ?0 AND event_id = ANY (?1::text[]) RETURNING *
)
INSERT INTO inbox AS i (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence)
SELECT subscriber, event_id::uuid, coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(aggregate_version, 0), position, _sequence
FROM ended ORDER BY position
ON CONFLICT (subscriber, event_id) DO UPDATE SET applied_at = clock_timestamp() WHERE i.applied_at IS NULL`

// end ends the letters whose effects happened. If none failed, it promotes the letter behind them.
func (d *redelivery) end(ctx context.Context) error {
	if len(d.ended) == 0 {
		return nil
	}
	if err := d.exec(ctx, endStatement, d.subscriber, pgdialect.Array(d.ended)); err != nil || d.done.Failed != nil {
		return err
	}
	return promoteHead(ctx, d.tx, d.subscriber, d.letters[0].Key)
}

// exec runs a statement whose result nobody needs.
func (d *redelivery) exec(ctx context.Context, statement string, args ...any) error {
	_, err := d.tx.ExecContext(ctx, statement, args...)
	return classify(ctx, err)
}
