package postgres

import (
	"database/sql"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// fenceCTE begins every write that needs the lease ?0 under the token ?1. It locks the lease while the statement writes. Each write
// is one statement, for two reasons. If it only looked at the token, a former leader that was stalled could write after its successor.
// If it held a lock over a round trip, a frozen leader could keep its successor out.
const fenceCTE = `
WITH fence AS (
	SELECT token FROM leases WHERE name = ?0 AND token = ?1 FOR SHARE
)`

// fencedWrite begins a statement that writes only if the relay holds the lease and its cursor is at revision ?2. It raises the
// revision. It may also set columns of the cursor: values are for the first row, updates for a later write. Everything else that the
// statement changes must join the CTE written, which is empty if the fence refuses the write. updated_at changes only if updates
// say so: it is the time of the relay's last progress, and a relay that writes without progress is stuck.
//
// If the write is accepted, the statement's snapshot shows all earlier fenced writes: the caller knows the revision that the last one
// returned. Only operators and retention may have changed something since.
func fencedWrite(columns, values, updates string) string {
	return fenceCTE + fencedWriteFrom("fence", columns, values, updates)
}

// fencedWriteFrom is fencedWrite for a statement that has begun already. source is a CTE that has the row of fence if the statement
// may write.
func fencedWriteFrom(source, columns, values, updates string) string {
	return `, written AS (
	INSERT INTO outbox_cursor AS c (relay, token, revision, updated_at` + columns + `)
	SELECT ?0, token, 1, clock_timestamp()` + values + `
	FROM ` + source + ` WHERE ?2 = 0 OR EXISTS (SELECT FROM outbox_cursor WHERE relay = ?0)
	ON CONFLICT (relay) DO UPDATE SET token = excluded.token, revision = c.revision + 1` + updates + `
	WHERE c.revision = ?2
	RETURNING c.*
)`
}

// fenceOutcome is what every fenced write selects first. A fenceResult scans it.
const fenceOutcome = `EXISTS (SELECT FROM fence), (SELECT revision FROM written)`

// fenceResult is what the fence decided about a write.
type fenceResult struct {
	held     bool          // the relay holds the lease
	revision sql.NullInt64 // of the cursor after the write; NULL: nothing was written
}

// err returns why nothing was written, or nil.
func (r fenceResult) err(name string, fence relay.WriteFence) error {
	switch {
	case !r.held:
		return leaseLost(name, fence.Token)
	case !r.revision.Valid:
		return relay.ErrStaleRevision.With("the cursor of %s is not at revision %d any more", name, fence.Revision)
	}
	return nil
}

func leaseLost(name string, token int64) error {
	return relay.ErrLeaseLost.With("the lease %s is not held under token %d any more", name, token)
}
