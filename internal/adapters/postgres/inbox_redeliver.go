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

// Redeliver locks the head, which is the aggregate's first pending letter, and then the letters behind it. The isolation is READ COMMITTED:
// each statement sees what was committed before the statement began, and a lock returns the newest version of its row. Letters take effect
// in order and once, also while other transactions run, for these reasons.
//
// Another Redeliver: a transaction that works on an aggregate has locked its head. The other transaction does not wait for that lock, and
// chooses another aggregate. It chooses a later letter of the same aggregate only if its snapshot has no earlier pending letter. If an
// earlier letter has left the snapshot, the transaction that ended it has committed, together with the letter's effect. After the head is
// locked, the second statement looks for earlier letters again.
//
// The lane inserts letters of the aggregate at any time, and ignores locks. It holds an event if its snapshot has a pending letter of the
// aggregate. If Redeliver has ended the last such letter and committed before that snapshot, the lane applies the event, after the effects
// of the letters. Otherwise the event becomes a letter. Later events of the aggregate cannot pass this letter, because each later
// transaction of the lane sees the letter in its snapshot. The letter's state may still be 'waiting' when no letter is before it any more;
// promoteHeads finds such letters. An event that has a letter also has a row in inbox, so the lane drops the event when it comes again.
//
// Discard and Retry, of one letter or many, lock the letter. If Discard locks the letter first, Redeliver finds it discarded and leaves it
// out. If Retry locks the letter first, Redeliver finds it pending, and may handle it. If Redeliver locks the letter first, Discard and
// Retry wait. Then they find no letter, or the letter that failed.
//
// Programs of earlier versions lock a letter before they apply, change or end it, and before they write the event's row in inbox. After
// this transaction they find no letter, and then do nothing, because the row in inbox is there. They apply any letter whose state is
// 'retrying'. So letters behind a pending letter have the state 'waiting'.
//
// Locks are taken in this order: the letters of one aggregate in the order of their positions, then rows of totals, then rows of inbox.
// Statements that only correct a hint wait for no lock. So transactions never wait for each other, with one exception: a Redeliver with
// savepoints changes totals in the order of the letters. If it and a lane wait for each other, Postgres ends one of the two. That is a
// fault.Unavailable.
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
	err = transact(guarded(ctx), i.db, func(ctx context.Context, tx bun.Tx) (err error) {
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

// redelivery is one transaction that works on the letters of one aggregate.
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

// earlier finds a pending letter of the same aggregate before a letter. It is a scalar subquery on purpose: the planner must look it up for
// each letter, and must not join it to all letters.
const earlier = `(
	SELECT true FROM dead_letters AS earlier
	WHERE earlier.subscriber = letter.subscriber
		AND hashtextextended(earlier.aggregate_id, hashtextextended(earlier.aggregate_type, 0)) =
			hashtextextended(letter.aggregate_id, hashtextextended(letter.aggregate_type, 0))
		AND earlier.aggregate_type = letter.aggregate_type AND earlier.aggregate_id = letter.aggregate_id
		AND earlier.position < letter.position AND earlier.state IN ` + pendingStates + ` LIMIT 1)`

// isHead says that a letter is the first pending one of its aggregate.
const isHead = "letter.position IS NOT NULL AND letter.aggregate_type IS NOT NULL AND letter.aggregate_id IS NOT NULL AND " + earlier + " IS NULL"

const (
	// headStatement first locks the subscriber's row until the transaction ends, so that an operator who pauses or forgets the subscriber
	// waits. The lock is a key share, which does not wait for other key shares.
	//
	// The statement returns no row if the subscriber is paused, is forgotten, yields, or now has a handler other than ?3. This also holds
	// if the decision was made while the statement waited for the row.
	//
	// Then the statement reads the letters that waited for one of the types ?2, by the index dead_letters_no_handler. After those it reads
	// due letters in the order of the index dead_letters_due. It stops at the first letter that is a head and is not locked.
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

	// lettersStatement locks the head and the letters behind it. It returns none if the aggregate has an earlier pending letter.
	lettersStatement = `
SELECT ` + letterColumns + ` FROM dead_letters AS letter
WHERE subscriber = ?0 AND ` + ofAggregate + ` AND position >= ?3 AND state IN ` + pendingStates + `
	AND (SELECT true FROM dead_letters WHERE subscriber = ?0 AND ` + ofAggregate + ` AND position < ?3 AND state IN ` + pendingStates + ` LIMIT 1) IS NULL
ORDER BY position LIMIT ?4 FOR UPDATE OF letter`
)

// choose locks a head and the letters behind it. It stops at the limit, or before the first dead letter that does not wait for a handler of
// these types. It reports whether there is a head. If the lane has inserted an earlier letter since the head was chosen, choose begins
// again with that letter as the head.
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

// handleAll handles the letters, and writes all their effects at the end.
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

// handleAlone handles a letter within a savepoint. failed is the error of the handler, or of the write of its effects. In both cases the
// effects are undone.
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

// handle calls the handler. Programs of earlier versions kept letters of events whose ids are not UUIDs. Such an event has no row in inbox,
// so nothing would say that it was applied.
func (d *redelivery) handle(ctx context.Context, effects *effects, letter inbox.Letter) error {
	if !isUUID(letter.ID) {
		return inbox.ErrPermanent.With("the id %.64q of the event is not a UUID, so it can only be discarded", letter.ID)
	}
	return d.idle.handle(ctx, d.handler, effects, letter.Entry)
}

// applied returns the ids of events that took effect although they have letters. No program leaves such a letter. An operator may have
// inserted or changed it with SQL. Its event must not take effect twice.
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

// fail stores the failure of a letter as judge decides.
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

// endStatement deletes letters, and records that their events were applied. It changes rows of inbox last: when the event comes again, the
// lane waits for a row that this transaction has changed.
const endStatement = `
WITH ended AS (
	DELETE FROM dead_letters WHERE subscriber = ?0 AND event_id = ANY (?1::text[]) RETURNING *
)
INSERT INTO inbox AS i (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence)
SELECT subscriber, event_id::uuid, coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(aggregate_version, 0), position, _sequence
FROM ended ORDER BY position
ON CONFLICT (subscriber, event_id) DO UPDATE SET applied_at = clock_timestamp() WHERE i.applied_at IS NULL`

// end ends the letters whose events took effect. If no letter failed, it promotes the next letter of the aggregate.
func (d *redelivery) end(ctx context.Context) error {
	if len(d.ended) == 0 {
		return nil
	}
	if err := d.exec(ctx, endStatement, d.subscriber, pgdialect.Array(d.ended)); err != nil || d.done.Failed != nil {
		return err
	}
	return promoteHead(ctx, d.tx, d.subscriber, d.letters[0].Key)
}

// exec runs a statement and ignores its result.
func (d *redelivery) exec(ctx context.Context, statement string, args ...any) error {
	_, err := d.tx.ExecContext(ctx, statement, args...)
	return classify(ctx, err)
}
