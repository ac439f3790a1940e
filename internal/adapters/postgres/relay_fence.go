package postgres

import (
	"database/sql"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// fenceCTE begins every write that needs the lease ?0 with the token ?1. It locks the lease while the statement writes. Each write is one
// statement. If a write only read the token first, a stalled former leader could still write after its successor. If a write held the lock
// over a round trip, a frozen leader could keep its successor out.
const fenceCTE = `
WITH fence AS (
	SELECT token FROM leases WHERE name = ?0 AND token = ?1 FOR SHARE
)`

// fencedWrite begins a statement that writes only if the relay holds the lease and the cursor is at revision ?2. It raises the revision. It
// can also set columns of the cursor: values are for the first row, and updates for a later write. All other changes of the statement must
// join the CTE written, which is empty if the fence refuses the write. updated_at changes only if updates says so. It is the time of the
// relay's last progress: a relay that writes without progress is stuck.
//
// If the write is accepted, the statement's snapshot has all earlier fenced writes, because the caller knows the revision that the last of
// them returned. Since then only operators and retention may have changed something.
func fencedWrite(columns, values, updates string) string {
	return fenceCTE + fencedWriteFrom("fence", columns, values, updates)
}

// fencedWriteFrom is fencedWrite for a statement that has begun already. source is a CTE. It has the row of fence if the statement may
// write.
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

// fenceOutcome is the first part of the SELECT of every fenced write. A fenceResult scans it.
const fenceOutcome = `EXISTS (SELECT FROM fence), (SELECT revision FROM written)`

// fenceResult says whether a fenced write was accepted.
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
