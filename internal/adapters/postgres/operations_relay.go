package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// RelayAdmin shows operators the state of one relay and of its log, and repairs both. Its reads lock nothing and write nothing.
type RelayAdmin struct {
	db     *bun.DB
	relay  string
	stream string
}

var _ operations.RelayInspector = (*RelayAdmin)(nil)

// NewRelayAdmin returns the administration of relay, which publishes to stream.
func NewRelayAdmin(db *bun.DB, relay, stream string) *RelayAdmin {
	return &RelayAdmin{db: db, relay: relay, stream: stream}
}

// Status sends several statements, so its values may be a few milliseconds apart.
func (a *RelayAdmin) Status(ctx context.Context) (operations.RelayStatus, error) {
	ctx = allow(ctx, operatorTime)
	status, err := a.relayStatus(ctx)
	if err == nil {
		status.Unpublished, status.Oldest, err = countBehind(ctx, a.db, status.Position)
	}
	if err == nil {
		status.HaltedInstances, err = a.haltedInstances(ctx)
	}
	if err != nil {
		return operations.RelayStatus{}, classify(ctx, fmt.Errorf("read the status of the relay %s: %w", a.relay, err))
	}
	if status.SequenceCheck, err = a.CheckSequence(ctx); err != nil {
		return operations.RelayStatus{}, err
	}
	writers, err := describeWriters(ctx, a.db)
	if err != nil {
		return operations.RelayStatus{}, classify(ctx, err)
	}
	if len(writers) > 0 {
		status.OldestTransaction = &writers[0].OpenTransaction
	}
	return status, nil
}

const statusStatement = `
SELECT pg_is_in_recovery(), clock_timestamp(), l.holder, l.token, l.acquired_at, l.expires_at,
	c.position, c.stream, c.stream_sequence, c.purged_to, c.updated_at, c.halt_reason, c.halt_detail, c.halted_at,
	(SELECT coalesce(max(position), 0) FROM outbox), parked.events, parked.aggregates
FROM (SELECT) AS always
LEFT JOIN leases AS l ON l.name = ?0 AND l.expires_at > clock_timestamp()
LEFT JOIN outbox_cursor AS c ON c.relay = ?0
CROSS JOIN (
	SELECT coalesce(sum(events), 0) AS events, count(*) AS aggregates
	FROM (SELECT count(*) AS events FROM outbox_parked WHERE state IN ('parked', 'redrive') GROUP BY aggregate_type, aggregate_id) AS waiting
) AS parked`

// relayStatus reads the whole status, except the backlog and the writers.
func (a *RelayAdmin) relayStatus(ctx context.Context) (operations.RelayStatus, error) {
	var standby bool
	var holder, stream, reason, detail sql.NullString
	var token, position, sequence, purgedTo sql.NullInt64
	var acquired, expires, updated, halted sql.NullTime
	status := operations.RelayStatus{Relay: a.relay}
	err := a.db.QueryRowContext(ctx, statusStatement, a.relay).Scan(&standby, &status.Now, &holder, &token, &acquired, &expires,
		&position, &stream, &sequence, &purgedTo, &updated, &reason, &detail, &halted,
		&status.LastPosition, &status.ParkedEvents, &status.ParkedAggregates)
	switch {
	case err != nil:
		return operations.RelayStatus{}, err
	case standby:
		return operations.RelayStatus{}, errStandby
	}
	status.Position, status.PurgedTo = outbox.Position(position.Int64), outbox.Position(purgedTo.Int64)
	status.Stream, status.Sequence, status.SavedAt = stream.String, uint64(sequence.Int64), updated.Time
	if token.Valid {
		status.Leader = &operations.Leader{Holder: holder.String, Token: token.Int64, Since: acquired.Time, Until: expires.Time}
	}
	if reason.Valid {
		halt := relay.Halt{Reason: relay.HaltReason(reason.String), Detail: detail.String}
		status.Halt = &operations.RecordedHalt{Halt: halt, Since: halted.Time}
	}
	return status, nil
}

// behindStatement needs the position as a literal. Then the planner knows how many rows come after the position, and reads only those.
const behindStatement = `
SELECT count(*), min(o.recorded_at) FILTER (WHERE ` + validTime + `)
FROM outbox AS o WHERE o.position > ? AND NOT EXISTS (SELECT FROM outbox_parked AS p WHERE p.position = o.position)`

// countBehind counts the entries after position that are not in the parking lot. oldest is the earliest time at which one of them was
// recorded.
func countBehind(ctx context.Context, db *bun.DB, position outbox.Position) (count int64, oldest time.Time, err error) {
	var first sql.NullTime
	err = db.QueryRowContext(ctx, behindStatement, int64(position)).Scan(&count, &first)
	return count, first.Time, err
}

// List asks only for the payloads that it returns.
func (a *RelayAdmin) List(ctx context.Context, filter operations.EventFilter) ([]operations.ListedEvent, error) {
	ctx = allow(ctx, operatorTime)
	rows, err := a.listQuery(filter).Rows(ctx)
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("list the outbox: %w", err))
	}
	defer func() { _ = rows.Close() }()
	var found []operations.ListedEvent
	var unread []outbox.Position // positions of rows in which a part other than the payload is too large
	for rows.Next() {
		var row logRow
		var listed operations.ListedEvent
		var bytes int64 // of the payloads up to this row
		if err := rows.Scan(append(row.columns(), &listed.State, &listed.Reason, &listed.Sequence, &bytes)...); err != nil {
			return nil, classify(ctx, fmt.Errorf("list the outbox: %w", err))
		}
		listed.Entry = row.entry()
		if bytes > operations.MaxListedBytes {
			listed.Omitted = fmt.Sprintf("this list has %d bytes of payloads already", operations.MaxListedBytes)
		} else if filter.Payloads && row.payload == nil {
			listed.Omitted = fmt.Sprintf("it takes more than %d bytes", operations.MaxListedPayload)
		}
		if row.unread() {
			unread = append(unread, listed.Position)
		}
		found = append(found, listed)
	}
	err = rows.Err()
	if err == nil {
		err = a.explainListed(ctx, found, unread)
	}
	return found, classify(ctx, err)
}

// listQuery selects the columns of logRow, the state, the reason, the sequence in the stream, and the bytes of the payloads up to the row. A
// payload that is not wanted is NULL. The limit is in a query of its own, because Postgres computes a sum of a window before it limits the
// rows. So it adds the sizes of these rows only.
func (a *RelayAdmin) listQuery(filter operations.EventFilter) *bun.SelectQuery {
	listed := a.db.NewSelect().ColumnExpr("o."+strings.ReplaceAll(entryNames, ", ", ", o.")).
		ColumnExpr(eventState+" AS state").
		ColumnExpr("coalesce(p.reason, '') AS reason").
		ColumnExpr("coalesce(p.stream_sequence, 0) AS stream_sequence").
		TableExpr("outbox AS o").
		Join("LEFT JOIN outbox_parked AS p ON p.position = o.position AND p.event_id = o.event_id").
		Join("LEFT JOIN outbox_cursor AS c ON c.relay = ?", a.relay).
		OrderExpr("o.position DESC LIMIT ?", max(filter.Limit, 0)) // for bun's own Limit, 0 means no limit
	listed = a.inState(listed, filter.State)
	if filter.Position != 0 {
		listed = listed.Where("o.position = ?", int64(filter.Position))
	}
	if filter.Before != 0 {
		listed = listed.Where("o.position < ?", int64(filter.Before))
	}
	if filter.Aggregate.Type != "" {
		listed = listed.Where("o.aggregate_type = ?", filter.Aggregate.Type)
	}
	if filter.Aggregate.ID != "" {
		listed = listed.Where("o.aggregate_id = ?", filter.Aggregate.ID)
	}
	if filter.Type != "" {
		listed = listed.Where("o.event_type = ?", filter.Type)
	}
	if !filter.Since.IsZero() {
		listed = listed.Where("o.recorded_at >= ?", filter.Since)
	}
	payload, bytes := "NULL", "0"
	if filter.Payloads {
		fits := "CASE " + payloadUpTo(strconv.Itoa(operations.MaxListedPayload)) + " END"
		bytes = "coalesce(sum(octet_length((" + fits + ")::text)) OVER (ORDER BY o.position DESC), 0)"
		payload = fmt.Sprintf("CASE WHEN %s <= %d THEN %s END", bytes, operations.MaxListedBytes, fits)
	}
	return a.db.NewSelect().ColumnExpr(columnsWith(payload)).ColumnExpr("o.state, o.reason, o.stream_sequence").ColumnExpr(bytes).
		TableExpr("(?) AS o", listed).OrderExpr("o.position DESC")
}

// eventState is the state of a row of the log. In it, p is the row of the parking lot, and c the row of the cursor.
const eventState = `CASE WHEN p.state IS NOT NULL THEN p.state WHEN ` + belowPurged + ` OR ` + recordedLater + ` THEN '` + operations.Misplaced + `'
	WHEN o.position <= c.position THEN '` + operations.Published + `' ELSE '` + operations.Unpublished + `' END`

// These are bounds of the rows in each state. Every row in the state is within its bound, but not every row within the bound is in the state.
// So that the planner uses an index, each bound is a list or a limit that Postgres computes first. Misplaced rows are few, but the planner
// does not know how few, and would read the log from its end to find them.
const (
	boundOfPublished   = "o.position <= (SELECT position FROM outbox_cursor WHERE relay = ?)"
	boundOfUnpublished = "o.position > coalesce((SELECT position FROM outbox_cursor WHERE relay = ?), 0)"
	boundOfMisplaced   = "o.position = ANY (ARRAY(" +
		"SELECT o.position FROM outbox_cursor AS c, outbox AS o WHERE c.relay = ?0 AND " + belowPurged + " UNION ALL " +
		"SELECT o.position FROM outbox_cursor AS c, outbox AS o WHERE c.relay = ?0 AND " + recordedLater + "))"
	boundOfParkingLot = "o.position = ANY (ARRAY (SELECT position FROM outbox_parked WHERE state = ?))"
)

// inState excludes the rows that are in another state. An empty state excludes nothing.
func (a *RelayAdmin) inState(listed *bun.SelectQuery, state string) *bun.SelectQuery {
	switch state {
	case "":
		return listed
	case operations.Published:
		listed = listed.Where(boundOfPublished, a.relay)
	case operations.Unpublished:
		listed = listed.Where(boundOfUnpublished, a.relay)
	case operations.Misplaced:
		listed = listed.Where(boundOfMisplaced, a.relay)
	default:
		listed = listed.Where(boundOfParkingLot, state).Where("p.state = ?", state)
	}
	return listed.Where(eventState+" = ?", state)
}

// explainListed completes the entries of a list in which a part other than the payload is too large.
func (a *RelayAdmin) explainListed(ctx context.Context, found []operations.ListedEvent, unread []outbox.Position) error {
	var entries []outbox.Entry
	for _, position := range unread {
		entries = append(entries, outbox.Entry{Position: position})
	}
	if err := explain(ctx, a.db, entries, operations.MaxListedPayload); err != nil {
		return err
	}
	for i := range found {
		if n := slices.Index(unread, found[i].Position); n >= 0 {
			e := entries[n]
			found[i].Key, found[i].Type, found[i].Subject, found[i].Invalid = e.Key, e.Type, e.Subject, e.Invalid
		}
	}
	return nil
}
