package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Query runs a statement with parameters $1, $2 … in somebody's transaction, and returns its rows.
type Query func(ctx context.Context, statement string, args ...any) ([]Inserted, error)

// Inserted is a row that a Query returns, with the columns in this order.
type Inserted struct {
	Position  int64
	Isolation string // of the transaction
	Timeout   string // how long the transaction may be idle from now on
}

// NewForeignAppender returns an appender to the outbox in a transaction that this package has not begun, on any driver. As for each writer,
// Postgres ends the transaction if it is idle for ten seconds after it has appended.
// Only errors of pgx are classified, also those that come through database/sql.
func NewForeignAppender(query Query) relay.Appender { return foreignAppender{query} }

type foreignAppender struct{ query Query }

const (
	foreignColumns = 8
	foreignRows    = 1000 // of one statement: Postgres takes at most 65,535 parameters
)

// Append inserts up to 1000 messages with one statement.
func (a foreignAppender) Append(ctx context.Context, messages ...outbox.Message) error {
	for _, message := range messages {
		if err := message.Validate(); err != nil {
			return err
		}
	}
	for rows := range slices.Chunk(messages, foreignRows) {
		inserted, err := a.insert(ctx, rows)
		if err != nil {
			return appendError(ctx, err)
		}
		if err := checkInserted(inserted, len(rows)); err != nil {
			return err
		}
	}
	return nil
}

// ErrIsolation reports that a transaction at this isolation cannot append.
var ErrIsolation = fault.New(fault.Invalid, "isolation", "the transaction cannot append to the outbox")

// checkInserted checks the isolation and the positions. READ UNCOMMITTED is READ COMMITTED in Postgres.
func checkInserted(inserted []Inserted, want int) error {
	positions := make([]int64, len(inserted))
	for i, row := range inserted {
		if row.Isolation != "read committed" && row.Isolation != "read uncommitted" {
			return ErrIsolation.With("its isolation is %s: roll back, and begin it at READ COMMITTED", strings.ToUpper(row.Isolation))
		}
		positions[i] = row.Position
	}
	if len(positions) != want || !slices.IsSorted(positions) {
		return errDisorder.With("%d messages got the positions %v", want, positions)
	}
	return nil
}

func (a foreignAppender) insert(ctx context.Context, messages []outbox.Message) ([]Inserted, error) {
	var statement strings.Builder
	statement.WriteString("INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload) VALUES ")
	args := make([]any, 0, foreignColumns*len(messages))
	for i, message := range messages {
		headers := message.Headers
		if headers == nil {
			headers = map[string]string{}
		}
		encoded, err := json.Marshal(headers)
		if err != nil {
			return nil, fmt.Errorf("encode the headers of message %s: %w", message.ID, err)
		}
		if i > 0 {
			statement.WriteString(", ")
		}
		n := len(args)
		fmt.Fprintf(&statement, "($%d::uuid, $%d, $%d, $%d::bigint, $%d, $%d, $%d::jsonb, $%d::json)", n+1, n+2, n+3, n+4, n+5, n+6, n+7, n+8)
		args = append(args, message.ID, message.Key.Type, message.Key.ID, message.Version, message.Type, message.Subject, string(encoded),
			string(message.Payload))
	}
	statement.WriteString(" RETURNING position, current_setting('transaction_isolation'), set_config('idle_in_transaction_session_timeout', '" +
		strconv.FormatInt(int64(abandonedAfter/time.Millisecond), 10) + "', true)")
	return a.query(ctx, statement.String(), args...)
}

// appendError classifies the error of an insertion into the outbox. An error that was classified stays as it is.
func appendError(ctx context.Context, err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	switch state := sqlState(err); {
	case violates(err, versionConstraint):
		return relay.ErrVersionTaken.Wrap(err)
	case violates(err, positionConstraint):
		return errPositionTaken.Wrap(err)
	case strings.HasPrefix(state, dataException):
		return outbox.ErrInvalidMessage.With("the database cannot keep the message").Wrap(err)
	}
	return classify(ctx, err)
}
