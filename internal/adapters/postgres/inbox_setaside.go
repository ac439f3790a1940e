package postgres

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const lockFailingStatement = `
SELECT event_id, attempts FROM dead_letters
WHERE subscriber = ?0 AND event_id = ANY (?1::text[]) AND state = 'failing' ORDER BY event_id FOR UPDATE`

// lockFailing locks the failing letters of the batch's events, and notes their attempts. It runs before the events are recorded, because
// every transaction that decides about an event locks the event's letter first.
func (a *application) lockFailing(ctx context.Context) error {
	if !a.anyLetters || len(a.batch.Events) == 0 {
		return nil
	}
	ids := make([]string, len(a.batch.Events))
	for i, event := range a.batch.Events {
		ids[i] = letterID(event.ID)
	}
	rows, err := a.tx.QueryContext(ctx, lockFailingStatement, a.subscriber, pgdialect.Array(ids))
	if err != nil {
		return classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	a.attempts = make(map[string]int)
	for rows.Next() {
		var id string
		var attempts int
		if err := rows.Scan(&id, &attempts); err != nil {
			return classify(ctx, err)
		}
		a.attempts[id] = attempts
	}
	return classify(ctx, rows.Err())
}

// endFailing deletes the failing letters of events that took effect.
func (a *application) endFailing(ctx context.Context) error {
	var ended []string
	for i, event := range a.batch.Events {
		_, failing := a.attempts[letterID(event.ID)]
		if failing && (a.results[i] == inbox.Applied || a.results[i] == inbox.Duplicate) {
			ended = append(ended, letterID(event.ID))
		}
	}
	if len(ended) == 0 {
		return nil
	}
	return a.exec(ctx, "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ANY (?::text[]) AND state = 'failing'",
		a.subscriber, pgdialect.Array(ended))
}

// replaceFailing lets a new letter replace a failing one. It replaces no other letter.
const replaceFailing = `CONFLICT (subscriber, event_id) DO UPDATE SET state = excluded.state, error = excluded.error,
	attempts = excluded.attempts, due_at = excluded.due_at, dead_at = excluded.dead_at, changed_at = excluded.changed_at,
	_sequence = excluded._sequence, _no_handler = excluded._no_handler WHERE letter.state = 'failing'`

// reject makes a dead letter of a message that cannot have a row in inbox. The letter has no aggregate, so nothing waits behind it. If the
// message has a letter already, reject only notes where it was read last.
func (a *application) reject(ctx context.Context, index int, cause error) error {
	message := a.batch.Events[index].Message
	message.Key, message.Version, message.Type = outbox.Key{}, 0, ""
	letter := inbox.Letter{Entry: outbox.Entry{Message: message}}.Failed(inbox.Failure{Cause: cause, Permanent: true})
	return a.setAside(ctx, index, letter, 0)
}

// leave makes a letter of an event for which this program has no handler. Later events of its aggregate are held.
func (a *application) leave(ctx context.Context, index int) error {
	event := a.batch.Events[index]
	a.held[event.Key] = true
	letter := inbox.Letter{Entry: event.Entry, Attempts: a.attempts[letterID(event.ID)]}
	return a.setAside(ctx, index, letter.Failed(inbox.Failure{Cause: inbox.ErrNoHandler, Permanent: true}), 0)
}

// setAside makes a letter of an event that failed. If the event has a letter that is not failing, setAside keeps that letter, and only
// notes where the event was read last.
func (a *application) setAside(ctx context.Context, index int, letter inbox.Letter, wait time.Duration) error {
	row := newLetterRow(a.subscriber, letter.Entry)
	row.State, row.Error, row.Attempts = letter.State, text(letter.Error), letter.Attempts
	row.Sequence, row.NoHandler = int64(a.batch.Events[index].Sequence), letter.NoHandler
	var deadAt bun.NullTime
	err := a.tx.NewInsert().Model(row).
		Value("due_at", "clock_timestamp() + ? * interval '1 microsecond'", wait.Microseconds()).
		Value("dead_at", "CASE WHEN ? THEN clock_timestamp() END", letter.State == inbox.Dead).
		On(replaceFailing).Returning("first_failed_at, dead_at").Scan(ctx, &letter.FirstFailedAt, &deadAt)
	if errors.Is(err, sql.ErrNoRows) {
		a.results[index] = inbox.Duplicate
		return a.exec(ctx, "UPDATE dead_letters SET _sequence = ? WHERE subscriber = ? AND event_id = ?", row.Sequence, a.subscriber, row.EventID)
	}
	if err != nil {
		return classify(ctx, err)
	}
	letter.DeadAt = deadAt.Time
	a.results[index] = inbox.SetAside
	a.letters = append(a.letters, letter)
	return nil
}

// heldAtOnce bounds how many letters one statement inserts.
const heldAtOnce = 100

// keepHeld inserts the letters of the held events. Their state is 'waiting', because programs of earlier versions need it.
func (a *application) keepHeld(ctx context.Context) error {
	var rows []*letterRow
	for i, event := range a.batch.Events {
		if a.results[i] == inbox.Held {
			row := newLetterRow(a.subscriber, event.Entry)
			row.State, row.Sequence = inbox.Waiting, int64(event.Sequence)
			rows = append(rows, row)
		}
	}
	for chunk := range slices.Chunk(rows, heldAtOnce) {
		if _, err := a.tx.NewInsert().Model(&chunk).On(replaceFailing).Exec(ctx); err != nil {
			return classify(ctx, err)
		}
	}
	return nil
}
