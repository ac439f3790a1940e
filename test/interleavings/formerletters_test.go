package interleavings_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// insertFormer creates the dead letter of an event that has none.
func insertFormer(ctx context.Context, tx bun.Tx, e outbox.Entry) error {
	kind, id, version, position, recorded, event := any(e.Key.Type), any(e.Key.ID), any(e.Version), any(int64(e.Position)), any(e.RecordedAt), any(e.Type)
	if e.Position == 0 {
		kind, id, version, position, recorded, event = nil, nil, nil, nil, nil, nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO dead_letters AS letter (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id,
		aggregate_version, position, recorded_at, event_type, subject, headers, payload, first_failed_at, dead_at, due_at, changed_at)
		VALUES (?, ?, 'failing', '', 0, ?, ?, ?, ?, ?, ?, ?, '{}', '{}', clock_timestamp(), NULL, clock_timestamp(), clock_timestamp())
		ON CONFLICT DO NOTHING`, subscriber, e.ID, kind, id, version, position, recorded, event, e.Subject)
	return err
}

// decide changes the dead letter of an event, and creates it first if there is none. change gets the attempts so far, and whether an earlier
// letter holds the event.
func (b formerInbox) decide(
	ctx context.Context, entry outbox.Entry, change func(state inbox.LetterState, attempts int, held bool) (inbox.LetterState, int),
) (state inbox.LetterState, err error) {
	err = b.do(ctx, func(tx bun.Tx) error {
		if err := insertFormer(ctx, tx, entry); err != nil {
			return err
		}
		var attempts int
		if state, attempts, err = lockLetter(ctx, tx, entry.ID); err != nil {
			return err
		}
		held := false
		switch state {
		case "":
			return inbox.ErrNoLetter
		case inbox.Failing:
			if held, err = lockFormer(ctx, tx, entry); err != nil {
				return err
			}
		case inbox.Retrying:
		default:
			return nil
		}
		state, attempts = change(state, attempts, held)
		applied, err := settleFormer(ctx, tx, entry, state)
		if err != nil {
			return err
		}
		if applied {
			state = "applied"
			return deleteLetter(ctx, tx, entry.ID)
		}
		return updateLetter(ctx, tx, entry.ID, state, "no", attempts)
	})
	return state, err
}

// Fail counts a failure.
func (b formerInbox) Fail(ctx context.Context, entry outbox.Entry, limit int) (inbox.LetterState, error) {
	return b.decide(ctx, entry, func(state inbox.LetterState, attempts int, held bool) (inbox.LetterState, int) {
		attempts++
		switch {
		case state == inbox.Failing && held:
			state = inbox.Waiting
		case attempts >= limit:
			state = inbox.Dead
		}
		return state, attempts
	})
}

// SetAside lets an event wait behind the earlier letter that holds it. If no letter holds the event any more, its own letter is retried.
func (b formerInbox) SetAside(ctx context.Context, entry outbox.Entry) (inbox.LetterState, error) {
	return b.decide(ctx, entry, func(state inbox.LetterState, attempts int, held bool) (inbox.LetterState, int) {
		switch {
		case state != inbox.Failing:
		case held:
			state = inbox.Waiting
		default:
			state = inbox.Retrying
		}
		return state, attempts
	})
}

// Reject stores an unreadable message as a dead letter.
func (b formerInbox) Reject(ctx context.Context, message outbox.Message) (inbox.LetterState, error) {
	return b.decide(ctx, outbox.Entry{Message: message}, func(state inbox.LetterState, attempts int, _ bool) (inbox.LetterState, int) {
		if state == inbox.Failing {
			return inbox.Dead, 1
		}
		return state, attempts
	})
}

// formerRow is a letter as former programs read it: bun fails if the table has a column that formerRow does not have.
type formerRow struct {
	bun.BaseModel `bun:"table:dead_letters,alias:letter"`

	Subscriber       string            `bun:"subscriber"`
	EventID          string            `bun:"event_id"`
	State            inbox.LetterState `bun:"state"`
	Error            string            `bun:"error"`
	Attempts         int               `bun:"attempts"`
	AggregateType    string            `bun:"aggregate_type,nullzero"`
	AggregateID      string            `bun:"aggregate_id,nullzero"`
	AggregateVersion int64             `bun:"aggregate_version,nullzero"`
	Position         int64             `bun:"position,nullzero"`
	RecordedAt       sql.NullTime      `bun:"recorded_at"`
	EventType        string            `bun:"event_type,nullzero"`
	Subject          string            `bun:"subject"`
	Headers          map[string]string `bun:"headers,type:json"`
	Payload          []byte            `bun:"payload"`
	FirstFailedAt    sql.NullTime      `bun:"first_failed_at"`
	DeadAt           sql.NullTime      `bun:"dead_at"`
	DueAt            sql.NullTime      `bun:"due_at"`
	ChangedAt        sql.NullTime      `bun:"changed_at"`
}

// Due takes a letter that is due for a retry. A former program then applies its event with Once.
func (b formerInbox) Due(ctx context.Context) (id string, err error) {
	var row formerRow
	err = b.side.db.NewRaw(`
UPDATE dead_letters SET due_at = clock_timestamp() + ?1 * interval '1 microsecond'
WHERE subscriber = ?0 AND event_id = (
	SELECT event_id FROM dead_letters
	WHERE subscriber = ?0 AND state = 'retrying' AND due_at <= clock_timestamp()
	ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING *`, subscriber, (2*leaseTTL).Microseconds()).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return row.EventID, err
}

const formerRetry = `
UPDATE dead_letters SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
WHERE subscriber = ? AND state = 'dead' AND position IS NOT NULL`

// Retry makes a dead letter due.
func (b formerInbox) Retry(ctx context.Context, id string) error {
	return b.do(ctx, func(tx bun.Tx) error {
		state, _, err := lockLetter(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case state == "" || state == inbox.Discarded:
			return inbox.ErrNoLetter
		case state != inbox.Dead:
			return inbox.ErrNotDead
		}
		_, err = tx.ExecContext(ctx, formerRetry+" AND event_id = ?", subscriber, id)
		return err
	})
}

// RetryAll makes all dead letters due.
func (b formerInbox) RetryAll(ctx context.Context) (int64, error) {
	n, err := rowsOf(b.side.db.ExecContext(ctx, formerRetry, subscriber))
	return n, outage(err)
}

// Discard discards an event.
func (b formerInbox) Discard(ctx context.Context, entry outbox.Entry) error {
	applied := false
	err := b.do(ctx, func(tx bun.Tx) error {
		state, attempts, err := lockLetter(ctx, tx, entry.ID)
		if err != nil {
			return err
		}
		if state == "" || state == inbox.Discarded {
			return inbox.ErrNoLetter
		}
		if applied, err = settleFormer(ctx, tx, entry, inbox.Discarded); err != nil {
			return err
		}
		if applied {
			err = deleteLetter(ctx, tx, entry.ID)
		} else {
			err = updateLetter(ctx, tx, entry.ID, inbox.Discarded, "no", attempts)
		}
		if err != nil {
			return err
		}
		return release(ctx, tx, entry.Key)
	})
	if err == nil && applied {
		return inbox.ErrNoLetter
	}
	return err
}

// Sweep removes old rows.
func (b formerInbox) Sweep(ctx context.Context) (string, error) {
	applied, err := rowsOf(b.side.db.ExecContext(ctx, `
DELETE FROM inbox WHERE (subscriber, event_id) IN (
	SELECT subscriber, event_id FROM inbox
	WHERE subscriber = ?0 AND applied_at < clock_timestamp() - ?1 * interval '1 microsecond' ORDER BY applied_at LIMIT ?2 FOR UPDATE SKIP LOCKED)`,
		subscriber, age.Microseconds(), 10))
	if err != nil {
		return "", outage(err)
	}
	discarded := 0
	err = b.side.db.QueryRowContext(ctx, `
WITH swept AS (
	DELETE FROM dead_letters WHERE (subscriber, event_id) IN (
		SELECT subscriber, event_id FROM dead_letters
		WHERE subscriber = ?0 AND state = 'discarded' AND changed_at < clock_timestamp() - ?1 * interval '1 microsecond' LIMIT ?2 FOR UPDATE SKIP LOCKED)
	RETURNING event_id
), decided AS (
	DELETE FROM inbox WHERE subscriber = ?0 AND applied_at IS NULL AND event_id IN (
		SELECT event_id::uuid FROM swept WHERE event_id ~ '^[0-9a-f-]{36}$')
)
SELECT count(*) FROM swept`, subscriber, age.Microseconds(), 10).Scan(&discarded)
	return fmt.Sprint(applied, discarded), outage(err)
}
