package postgres

import (
	"database/sql"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// fence begins every write that needs the lease ?0 under the token ?1. It locks the lease while the statement writes, and
// the statement is over when it answers. A plain look at the token would let a former leader that was stalled write after
// its successor; a lock held over a round trip would let a frozen one keep the successor out.
const fence = `
WITH fence AS (
	SELECT token FROM leases WHERE name = ?0 AND token = ?1 FOR SHARE
)`

// inTurn begins a write that takes effect only as the one after revision ?2 of the relay's cursor, and that may set columns
// of it: to values in its first row, by updates later on. Everything that the statement changes has to hang on the CTE
// turn, which is empty when it is not its turn. It leaves updated_at alone, which says when the relay came on last: one that
// writes and gets nowhere is stuck.
//
// Where there is a turn, the statement's snapshot shows what all turns before it did: whoever asks for this turn was told
// of the last one. Only operators and retention may have changed something since.
func inTurn(columns, values, updates string) string {
	return fence + inTurnOf("fence", columns, values, updates)
}

// inTurnOf is inTurn for a statement that has begun, and that may go on only where source has the row of fence.
func inTurnOf(source, columns, values, updates string) string {
	return `, turn AS (
	INSERT INTO outbox_cursor AS c (relay, token, revision, updated_at` + columns + `)
	SELECT ?0, token, 1, clock_timestamp()` + values + `
	FROM ` + source + ` WHERE ?2 = 0 OR EXISTS (SELECT FROM outbox_cursor WHERE relay = ?0)
	ON CONFLICT (relay) DO UPDATE SET token = excluded.token, revision = c.revision + 1` + updates + `
	WHERE c.revision = ?2
	RETURNING c.*
)`
}

// outcome is what every statement in turn selects first: EXISTS (SELECT FROM fence), (SELECT revision FROM turn).
const outcome = `EXISTS (SELECT FROM fence), (SELECT revision FROM turn)`

// verdict scans the outcome.
type verdict struct {
	held     bool
	revision sql.NullInt64
}

// err says why nothing was written, if so.
func (v verdict) err(name string, turn relay.WriteFence) error {
	switch {
	case !v.held:
		return leaseLost(name, turn.Token)
	case !v.revision.Valid:
		return relay.ErrOutOfTurn.With("the cursor of %s is not at revision %d any more", name, turn.Revision)
	}
	return nil
}

func leaseLost(name string, token int64) error {
	return relay.ErrLeaseLost.With("the lease %s is not held under token %d any more", name, token)
}
