package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The sequence of outbox.position can go back: by a data-only restore, logical replication, RESTART or setval. Then new events get
// positions that the relay has passed, and the relay never reads there again. The SQL fragments here find such events. In them c is a row
// of outbox_cursor, and o a row of the outbox.

// sequenceName is the name of the sequence. Log.Check checks it at start-up.
const sequenceName = "outbox_position_seq"

const (
	// nextPosition is the position that the sequence gives out next.
	nextPosition = `(SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM ` + sequenceName + `)`

	// highestPosition is the highest position that the sequence must not give out again.
	highestPosition = `greatest(c.position, c.purged_to, (SELECT max(position) FROM outbox), (SELECT max(position) FROM outbox_parked), 0)`

	// notParked looks up each row by an index, as readStatement does.
	notParked = `(SELECT true FROM outbox_parked AS p WHERE p.position = o.position AND p.event_id = o.event_id) IS NULL`

	// A row is misplaced if it came after the relay had passed its position. There are two cases. belowPurged: retention had removed
	// everything up to there. recordedLater: the row was recorded later than all rows that the relay had passed. The times that are
	// compared all come from this table, so a clock that goes back does not make a row look misplaced. Times that cannot be read do not
	// count: such rows were there before the schema refused them.
	//
	// The planner must not scan the whole table. So each fragment has two bounds, for which the planner expects few rows. The rows are
	// counted, because for EXISTS the planner would expect to find a row soon, and scan. Nearly all positions are below the cursor, so the
	// + 0 hides them from the planner.
	belowPurged   = `o.position BETWEEN 1 AND c.purged_to`
	recordedLater = `o.recorded_at > c.recorded_to AND o.recorded_at < '9999-12-31 00:00:00+00'
		AND o.position + 0 > c.purged_to AND o.position + 0 <= least(c.position, c.recorded_position)`

	misplacedCount = `((SELECT count(*) FROM outbox AS o WHERE ` + belowPurged + ` AND ` + notParked + `)
		+ (SELECT count(*) FROM outbox AS o WHERE ` + recordedLater + ` AND ` + notParked + `))`
)

// excess is an SQL expression that counts misplaced rows between the cursor and a position. It returns the number of rows minus the number
// of messages. If there are as many messages as positions, every position belongs to a message. Then no row can be misplaced, and Postgres
// reads no row.
func excess(position, sequence string) string {
	messages := `(` + sequence + ` - c.stream_sequence)`
	return `CASE WHEN c.stream_created IS NOT NULL AND ` + messages + ` BETWEEN 0 AND ` + position + ` - c.position - 1
		THEN (SELECT count(*) FROM outbox AS o WHERE o.position > c.position AND o.position <= ` + position + ` AND ` + notParked + `) - ` + messages + `
		ELSE 0 END`
}

// verifyStatement looks for misplaced rows only if the next position is not ?3.
var verifyStatement = `
SELECT pg_is_in_recovery(), log.next, greatest(` + highestPosition + `, ?1), coalesce(c.purged_to, 0),
	(SELECT event_id::text FROM outbox WHERE position = ?1),
	CASE WHEN log.next = ?3 THEN 0 ELSE coalesce(` + misplacedCount + `, 0) END,
	CASE WHEN log.next = ?3 THEN 0 ELSE coalesce(` + excess("?1", "?2") + `, 0) END,
	coalesce((SELECT max(position) FROM outbox) > ?1, false)
FROM (SELECT ` + nextPosition + ` AS next) AS log LEFT JOIN outbox_cursor AS c ON c.relay = ?0`

// verification is the last result of Verify. While the next position is the same, no row has come, so Verify does not look at all rows
// again. After verifyAgainAfter it does look again, because the sequence may have gone back and then forward.
type verification struct {
	reached  outbox.Progress
	sequence uint64
	next     outbox.Position
	at       time.Time
}

const verifyAgainAfter = 30 * time.Second

// nextIfRecent returns the next position of the last verification, if that verification was for the same arguments and is recent. Otherwise it
// returns 0, and Verify looks at everything.
func (s verification) nextIfRecent(reached outbox.Progress, sequence uint64) outbox.Position {
	if s.reached != reached || s.sequence != sequence || time.Since(s.at) >= verifyAgainAfter {
		return 0
	}
	return s.next
}

// Verify and After must not be called concurrently.
func (l *Log) Verify(ctx context.Context, reached outbox.Progress, sequence uint64) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	known := l.verification.nextIfRecent(reached, sequence)
	verified := verification{reached: reached, sequence: sequence, at: l.verification.at}
	l.verification = verification{}
	var standby bool
	var next, highest, purgedTo outbox.Position
	var id sql.NullString
	var misplaced, excess int64
	err = l.db.QueryRowContext(ctx, verifyStatement, l.relay, int64(reached.Position), int64(sequence), int64(known)).
		Scan(&standby, &next, &highest, &purgedTo, &id, &misplaced, &excess, &more)
	switch {
	case err != nil:
		return false, classify(ctx, fmt.Errorf("verify the outbox up to %d: %w", reached.Position, err))
	case standby:
		return false, errStandby
	case reached.Position > purgedTo && id.String != reached.EventID:
		return false, fmt.Errorf("read the outbox after %d: %w", reached.Position, historyLost(reached, id)) // the same text as After's
	case misplaced+excess > 0:
		return false, relay.ErrSequenceBehind.With("%s", misplacedEvents(misplaced+excess, reached.Position))
	case next <= highest:
		return false, sequenceBehind(next, highest)
	}
	if known != next {
		verified.at = time.Now()
	}
	verified.next = next
	l.verification = verified
	return more, nil
}

func misplacedEvents(count int64, upTo outbox.Position) string {
	return fmt.Sprintf("%d events came at positions up to %d, which the relay had passed: the sequence of outbox.position went back",
		count, upTo)
}

func sequenceBehind(next, highest outbox.Position) error {
	return relay.ErrSequenceBehind.With("the sequence of outbox.position went back: its next position is %d, but %d was given out before",
		next, highest)
}

func historyLost(from outbox.Progress, id sql.NullString) error {
	if !id.Valid {
		return relay.ErrHistoryLost.With("the log has no row at position %d, but event %q was published from this position",
			from.Position, from.EventID)
	}
	return relay.ErrHistoryLost.With("position %d of the log holds event %s, but event %q was published from this position",
		from.Position, id.String, from.EventID)
}

var disorderStatement = `
SELECT pg_is_in_recovery(), ` + nextPosition + `, ` + highestPosition + `, coalesce(` + misplacedCount + `, 0)
FROM (SELECT) AS always LEFT JOIN outbox_cursor AS c ON c.relay = ?`

// CheckSequence counts the events that came at positions after the relay had passed these positions.
func (a *RelayAdmin) CheckSequence(ctx context.Context) (found operations.SequenceCheck, err error) {
	var standby bool
	err = a.db.QueryRowContext(ctx, disorderStatement, a.relay).Scan(&standby, &found.NextPosition, &found.HighestPosition, &found.Misplaced)
	if err != nil {
		return operations.SequenceCheck{}, classify(ctx, fmt.Errorf("look for misplaced events of %s: %w", a.relay, err))
	}
	if standby {
		return operations.SequenceCheck{}, errStandby
	}
	return found, nil
}
