package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var errDisorder = fault.New(fault.Internal, "positions_disordered", "the positions of the inserted rows do not rise in the order of the messages")

// messageRow is a row of the outbox as a writer inserts it. The database sets its position and its time.
type messageRow struct {
	bun.BaseModel `bun:"table:outbox"`

	EventID          string            `bun:"event_id"`
	AggregateType    string            `bun:"aggregate_type"`
	AggregateID      string            `bun:"aggregate_id"`
	AggregateVersion int64             `bun:"aggregate_version"`
	EventType        string            `bun:"event_type"`
	Subject          string            `bun:"subject"`
	Headers          map[string]string `bun:"headers,type:jsonb"`
	Payload          string            `bun:"payload"` // a string, because bun would write []byte as bytea and would encode JSON types again
}

// appender appends to the outbox in one transaction.
type appender struct {
	tx             bun.Tx
	abandonedAfter time.Duration // 0: the transaction has set its idle timeout
	late           bool          // a single message may be sent with COMMIT
}

var _ relay.Appender = (*appender)(nil)

// Append inserts all messages with one statement. The statement also sets how long this transaction may be idle before Postgres ends it. If late
// is set, a single message is sent with the transaction's next statement, or with COMMIT. Several messages are not, because the order of
// their positions has to be checked before COMMIT.
func (a *appender) Append(ctx context.Context, messages ...outbox.Message) error {
	if len(messages) == 0 {
		return nil
	}
	for _, message := range messages {
		if err := message.Validate(); err != nil {
			return err
		}
	}
	if a.late && len(messages) == 1 {
		return a.appendLate(ctx, messages[0])
	}
	rows := make([]messageRow, 0, len(messages))
	for _, message := range messages {
		headers := message.Headers
		if headers == nil {
			headers = map[string]string{}
		}
		rows = append(rows, messageRow{
			EventID:          message.ID,
			AggregateType:    message.Key.Type,
			AggregateID:      message.Key.ID,
			AggregateVersion: message.Version,
			EventType:        message.Type,
			Subject:          message.Subject,
			Headers:          headers,
			Payload:          string(message.Payload),
		})
	}
	var positions []int64
	var timeouts []string
	insert, read := a.tx.NewInsert().Model(&rows).Returning("position"), []any{&positions}
	if a.abandonedAfter > 0 {
		insert = insert.Returning("set_config('idle_in_transaction_session_timeout', ?, true)", strconv.FormatInt(a.abandonedAfter.Milliseconds(), 10))
		read = append(read, &timeouts)
	}
	err := insert.Scan(ctx, read...)
	switch {
	case err != nil:
		return appendError(ctx, err)
	case len(positions) != len(messages) || !slices.IsSorted(positions):
		return errDisorder.With("%d messages got the positions %v", len(messages), positions)
	}
	return nil
}

// appendLateStatement inserts a message. Nobody looks at its answer before COMMIT, so it fails by a division by zero if no row was stored, for
// example because of a trigger.
const appendLateStatement = `
WITH stored AS (
	INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
	VALUES (?0, ?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING position
)
SELECT 1 / count(*), set_config('idle_in_transaction_session_timeout', ?8, true) FROM stored`

// appendLate inserts a message with the transaction's next statement, or with COMMIT.
func (a *appender) appendLate(ctx context.Context, m outbox.Message) error {
	headers := m.Headers
	if headers == nil {
		headers = map[string]string{}
	}
	encoded, err := json.Marshal(headers)
	if err != nil {
		return fmt.Errorf("encode the headers of message %s: %w", m.ID, err)
	}
	later := context.WithoutCancel(ctx)
	judged := func(err error) error {
		if sqlState(err) == divisionByZero {
			return errDisorder.With("the message %s was not stored", m.ID).Wrap(err)
		}
		return appendError(later, err)
	}
	_, err = a.tx.ExecContext(withLateAnswer(ctx, judged), appendLateStatement, m.ID, m.Key.Type, m.Key.ID, m.Version, m.Type, m.Subject,
		string(encoded), string(m.Payload), strconv.FormatInt(a.abandonedAfter.Milliseconds(), 10))
	return judged(err)
}

// errPositionTaken reports that a position is taken. The event itself is correct.
var errPositionTaken = relay.ErrSequenceBehind.With("the sequence of outbox.position went back and gives out positions that are taken, " +
	"so nothing can be recorded: repair it with `outboxie outbox adopt --yes`")

// divisionByZero is the SQLSTATE of a division by zero.
const divisionByZero = "22012"

// dataException is the class of SQLSTATEs for a value that does not fit its type.
const dataException = "22"

// The constraints whose violation this package recognizes.
const (
	positionConstraint = "outbox_pkey"
	versionConstraint  = "outbox_aggregate_type_aggregate_id_aggregate_version_key"
	idConstraint       = "outbox_event_id"
	orderConstraint    = "orders_pkey"
)

// violates reports whether err is a violation of this unique constraint.
func violates(err error, constraint string) bool {
	var reported *pgconn.PgError
	return errors.As(err, &reported) && reported.Code == uniqueViolation && reported.ConstraintName == constraint
}
