package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.DeadLetters = (*Inbox)(nil)

type letterRow struct {
	bun.BaseModel `bun:"table:dead_letters,alias:letter"`

	Subscriber       string            `bun:"subscriber"`
	EventID          string            `bun:"event_id"`
	State            inbox.State       `bun:"state"`
	Error            string            `bun:"error"`
	Attempts         int               `bun:"attempts"`
	AggregateType    string            `bun:"aggregate_type,nullzero"`
	AggregateID      string            `bun:"aggregate_id,nullzero"`
	AggregateVersion int64             `bun:"aggregate_version,nullzero"`
	Position         int64             `bun:"position,nullzero"`
	RecordedAt       time.Time         `bun:"recorded_at,nullzero"`
	EventType        string            `bun:"event_type,nullzero"`
	Subject          string            `bun:"subject"`
	Headers          map[string]string `bun:"headers,type:json"`
	Payload          []byte            `bun:"payload"`
	Read             digits            `bun:"payload_hex,scanonly"` // the payload, as letterColumns reads it
	FirstFailedAt    time.Time         `bun:"first_failed_at,nullzero,default:clock_timestamp()"`
	DeadAt           time.Time         `bun:"dead_at,nullzero"`
	DueAt            time.Time         `bun:"due_at,nullzero,default:clock_timestamp()"`
	ChangedAt        time.Time         `bun:"changed_at,nullzero,default:clock_timestamp()"`
	Behind           int               `bun:"behind,scanonly"`
}

// newLetterRow makes everything text that Postgres takes: what stands in the dead letters may be anybody's.
func newLetterRow(subscriber string, entry outbox.Entry) *letterRow {
	row := &letterRow{
		Subscriber:       subscriber,
		EventID:          letterID(entry.ID),
		State:            inbox.Failing,
		AggregateType:    text(entry.Key.Type),
		AggregateID:      text(entry.Key.ID),
		AggregateVersion: entry.Version,
		Position:         int64(entry.Position),
		RecordedAt:       recordable(entry.RecordedAt),
		EventType:        text(entry.Type),
		Subject:          text(entry.Subject),
		Headers:          make(map[string]string, len(entry.Headers)),
		Payload:          append([]byte{}, entry.Payload...), // never NULL
	}
	for name, value := range entry.Headers {
		row.Headers[text(name)] = text(value)
	}
	return row
}

// letterColumns are the columns of a letter. How Postgres prints bytes is a setting that poolers do not keep, so the payload is
// read in hexadecimal digits.
const letterColumns = `subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version, position,
	recorded_at, event_type, subject, headers, encode(payload, 'hex') AS payload_hex, first_failed_at, dead_at, due_at, changed_at`

// digits are bytes that are read in hexadecimal digits.
type digits []byte

// Scan reads what encode(…, 'hex') returns.
func (d *digits) Scan(read any) (err error) {
	switch read := read.(type) {
	case string:
		*d, err = hex.DecodeString(read)
	case []byte:
		*d, err = hex.DecodeString(string(read))
	default:
		err = fmt.Errorf("a payload was read as %T", read)
	}
	return err
}

func (r *letterRow) letter() inbox.Letter {
	letter := inbox.Letter{
		Entry: outbox.Entry{Position: outbox.Position(r.Position), RecordedAt: r.RecordedAt, Message: outbox.Message{
			ID: r.EventID, Type: r.EventType, Subject: r.Subject, Version: r.AggregateVersion,
			Key: outbox.Key{Type: r.AggregateType, ID: r.AggregateID}, Payload: r.Read,
		}},
		State: r.State, Error: r.Error, Attempts: r.Attempts, Behind: r.Behind, FirstFailedAt: r.FirstFailedAt, DeadAt: r.DeadAt,
	}
	if len(r.Headers) > 0 {
		letter.Headers = maps.Clone(r.Headers)
	}
	return letter
}

func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// longestID is how long the id of a letter may be, in bytes. Ids of events are UUIDs; a longer id than this is anybody's, and an
// index takes only some 2,700 bytes.
const longestID = 255

// letterID is the id under which the letter of an event is kept: the event's own, or a digest of one that is too long.
func letterID(id string) string {
	id = text(id)
	if len(id) <= longestID {
		return id
	}
	return fmt.Sprintf("long-id-%x", sha256.Sum256([]byte(id)))
}

// recordable is a time that Postgres can keep: Postgres knows no year 0. A time that cannot be kept is unknown.
func recordable(at time.Time) time.Time {
	if year := at.UTC().Year(); year < 1 || year > 9999 {
		return time.Time{}
	}
	return at
}

// letterAggregate is the aggregate of a letter as the index dead_letters_of has it, and ofAggregate that of two arguments, its
// type and its id. Different aggregates may have the same, so the names are compared besides.
const (
	letterAggregate = "hashtextextended(aggregate_id, hashtextextended(aggregate_type, 0))"
	ofAggregate     = letterAggregate + " = hashtextextended(?2, hashtextextended(?1, 0)) AND aggregate_type = ?1 AND aggregate_id = ?2"
)

// pendingStates are those in which a letter holds later events of its aggregate.
const pendingStates = "('dead', 'waiting', 'retrying')"

// lockLetter returns an event's letter, which nobody else changes before the transaction's end, or inbox.ErrNoLetter.
func lockLetter(ctx context.Context, tx bun.Tx, subscriber, id string) (letterRow, error) {
	var row letterRow
	err := tx.NewSelect().Model(&row).ColumnExpr(letterColumns).Where("subscriber = ? AND event_id = ?", subscriber, letterID(id)).For("UPDATE").Scan(ctx)
	return row, letterError(ctx, err, subscriber, id)
}

func letterError(ctx context.Context, err error, subscriber, id string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return inbox.ErrNoLetter.With("subscriber %s has no dead letter %s", subscriber, id)
	}
	return classify(ctx, err)
}

// lockBefore reports whether a letter holds the event. That letter cannot end before the transaction does, so whoever ends
// it sees what the transaction has put behind it.
func lockBefore(ctx context.Context, tx bun.Tx, subscriber string, entry outbox.Entry) (bool, error) {
	var id string
	err := tx.QueryRowContext(ctx, `SELECT event_id FROM dead_letters
		WHERE subscriber = ?0 AND `+ofAggregate+` AND position < ?3 AND state IN `+pendingStates+`
		ORDER BY position DESC LIMIT 1 FOR SHARE`, subscriber, text(entry.Key.Type), text(entry.Key.ID), int64(entry.Position)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, classify(ctx, err)
}

// release gives the letter its turn that waits at the head of an aggregate.
func release(ctx context.Context, tx bun.Tx, subscriber string, aggregate outbox.Key) error {
	_, err := tx.ExecContext(ctx, `UPDATE dead_letters
		SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
		WHERE subscriber = ?0 AND state = 'waiting' AND event_id = (
			SELECT event_id FROM dead_letters
			WHERE subscriber = ?0 AND `+ofAggregate+` AND state IN `+pendingStates+`
			ORDER BY position LIMIT 1)`, subscriber, text(aggregate.Type), text(aggregate.ID))
	return classify(ctx, err)
}

// decide changes the letter of an event, and makes it first if there is none. What was applied gets no letter. wait is
// until the letter is due, if it is retried.
func (i *Inbox) decide(
	ctx context.Context, subscriber string, entry outbox.Entry, wait time.Duration, change func(l inbox.Letter, held bool) inbox.Letter,
) (decided inbox.Letter, err error) {
	err = transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(newLetterRow(subscriber, entry)).On("CONFLICT DO NOTHING").Exec(ctx); err != nil {
			return classify(ctx, err)
		}
		row, err := lockLetter(ctx, tx, subscriber, entry.ID)
		if err != nil {
			return err
		}
		held := false
		switch row.State {
		case inbox.Failing: // only of these, or two transactions would wait for each other: release changes waiting ones
			if held, err = lockBefore(ctx, tx, subscriber, entry); err != nil {
				return err
			}
		case inbox.Retrying:
		default:
			decided = row.letter()
			return nil
		}
		decided = change(row.letter(), held)
		applied, err := settle(ctx, tx, subscriber, entry, decided.State)
		if err != nil {
			return err
		}
		if applied {
			decided.State = inbox.Applied
			return deleteLetter(ctx, tx, subscriber, row.EventID)
		}
		decided.DeadAt, err = update(ctx, tx, subscriber, decided, wait)
		return err
	})
	return decided, err
}

// settle makes the event count as dealt with, unless it is to come again. It reports whether it was applied before.
func settle(ctx context.Context, tx bun.Tx, subscriber string, entry outbox.Entry, state inbox.State) (applied bool, err error) {
	if len(entry.ID) != 36 || uuid.Validate(entry.ID) != nil {
		return false, nil // not the engine's; Once never applies it
	}
	if state != inbox.Failing {
		_, err = tx.ExecContext(ctx, `INSERT INTO inbox
			(subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, applied_at)
			VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING`,
			subscriber, entry.ID, text(entry.Key.Type), text(entry.Key.ID), entry.Version, int64(entry.Position))
		if err != nil {
			return false, classify(ctx, err)
		}
	}
	return wasApplied(ctx, tx, subscriber, entry.ID)
}

func wasApplied(ctx context.Context, tx bun.Tx, subscriber, id string) (applied bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (
		SELECT FROM inbox WHERE subscriber = ? AND event_id = ? AND applied_at IS NOT NULL)`, subscriber, id).Scan(&applied)
	return applied, classify(ctx, err)
}

func update(
	ctx context.Context, tx bun.Tx, subscriber string, letter inbox.Letter, wait time.Duration,
) (deadAt time.Time, err error) {
	var dead bun.NullTime
	err = tx.QueryRowContext(ctx, `UPDATE dead_letters SET state = ?2, error = ?3, attempts = ?4,
			due_at = clock_timestamp() + ?5 * interval '1 microsecond',
			dead_at = CASE WHEN state <> 'dead' AND ?2 = 'dead' THEN clock_timestamp() ELSE dead_at END,
			changed_at = CASE WHEN state <> ?2 THEN clock_timestamp() ELSE changed_at END
		WHERE subscriber = ?0 AND event_id = ?1 RETURNING dead_at`,
		subscriber, letter.ID, string(letter.State), text(letter.Error), letter.Attempts, wait.Microseconds()).Scan(&dead)
	return dead.Time, classify(ctx, err)
}

func deleteLetter(ctx context.Context, tx bun.Tx, subscriber, id string) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ?", subscriber, letterID(id))
	return classify(ctx, err)
}

// Fail implements the port.
func (i *Inbox) Fail(ctx context.Context, subscriber string, entry outbox.Entry, failure inbox.Failure) (inbox.Letter, error) {
	return i.decide(ctx, subscriber, entry, failure.Wait, func(l inbox.Letter, held bool) inbox.Letter {
		return l.Failed(failure, held)
	})
}

// SetAside implements the port.
func (i *Inbox) SetAside(ctx context.Context, subscriber string, entry outbox.Entry) (inbox.Letter, error) {
	return i.decide(ctx, subscriber, entry, 0, inbox.Letter.Aside)
}

// Reject implements the port.
func (i *Inbox) Reject(ctx context.Context, subscriber string, message outbox.Message, cause error) error {
	_, err := i.decide(ctx, subscriber, outbox.Entry{Message: message}, 0, func(l inbox.Letter, _ bool) inbox.Letter {
		return l.Rejected(cause)
	})
	return err
}

// dueStatement skips what another copy is taking at the same moment. The inner query is evaluated once; joined to, it could
// be evaluated for each row, and lock several.
const dueStatement = `
UPDATE dead_letters SET due_at = clock_timestamp() + ?1 * interval '1 microsecond'
WHERE subscriber = ?0 AND event_id = (
	SELECT event_id FROM dead_letters
	WHERE subscriber = ?0 AND state = 'retrying' AND due_at <= clock_timestamp()
	ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING ` + letterColumns

// Due implements the port.
func (i *Inbox) Due(ctx context.Context, subscriber string, lease time.Duration) (inbox.Letter, bool, error) {
	var row letterRow
	err := i.db.NewRaw(dueStatement, subscriber, lease.Microseconds()).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return inbox.Letter{}, false, nil
	}
	return row.letter(), err == nil, classify(ctx, err)
}
