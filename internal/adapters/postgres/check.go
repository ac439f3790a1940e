package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrUnsafe reports that the database is set up in a way that can lose events. The detail names the setting and the cure.
var ErrUnsafe = fault.New(fault.Invalid, "unsafe_setting", "the database is set up in a way that can lose events")

const checkStatement = `
SELECT pg_is_in_recovery(), row_security_active('outbox'), current_setting('fsync'), current_setting('full_page_writes'),
	(SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'), current_setting('session_replication_role'),
	(SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('outbox', 'position')::regclass),
	coalesce(pg_get_serial_sequence('outbox', 'position')::regclass = to_regclass('` + sequenceName + `'), false)`

// Check returns ErrUnsafe if the database's settings or its schema would let the engine lose events. Call it at start-up. It checks the
// settings that new sessions of this role get. It does not see a writer that turns synchronous_commit off for its own session. It needs
// only the rights that every role has. sets names the tables that the process uses besides the engine's tables. Without sets, Check looks
// at the tables of all sets.
func (l *Log) Check(ctx context.Context, sets ...Set) error {
	var standby, partial, named bool
	var fsync, fullPageWrites, synchronousCommit, replicationRole string
	var cache sql.NullInt64
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	row := l.db.QueryRowContext(ctx, checkStatement)
	err := row.Scan(&standby, &partial, &fsync, &fullPageWrites, &synchronousCommit, &replicationRole, &cache, &named)
	if err != nil {
		return classify(ctx, fmt.Errorf("check the database's settings: %w", err))
	}
	switch {
	case standby:
		return errStandby
	case partial:
		return ErrUnsafe.With("row security is active for the outbox and this role, and events that the relay does not see count as never " +
			"written: ALTER TABLE outbox DISABLE ROW LEVEL SECURITY, or give the role BYPASSRLS")
	case fsync != "on":
		return ErrUnsafe.With("fsync is %s, so a crash loses committed events: set fsync = on", fsync)
	case fullPageWrites != "on":
		return ErrUnsafe.With("full_page_writes is %s, so a crash can damage committed events: set full_page_writes = on",
			fullPageWrites)
	case synchronousCommit == "off":
		return ErrUnsafe.With("synchronous_commit is off, so a crash loses events that were already published: " +
			"set synchronous_commit = on for the server, the database and the role")
	case replicationRole != "origin":
		return ErrUnsafe.With("session_replication_role is %s, so the triggers that keep the outbox as it is do not fire: "+
			"set session_replication_role = origin for the server, the database and the role", replicationRole)
	case !cache.Valid:
		return ErrUnsafe.With("outbox.position is not an identity column, so the order of its values is unknown: run the migrations")
	case cache.Int64 != 1:
		return ErrUnsafe.With("the sequence of outbox.position has CACHE %d, so positions are given out in another order than asked for: "+
			"ALTER TABLE outbox ALTER COLUMN position SET CACHE 1", cache.Int64)
	}
	if err := l.checkSchema(ctx, sets); err != nil {
		return err
	}
	if !named {
		return ErrUnsafe.With("the sequence of outbox.position is not named %s, so the relay would not notice that it went back: "+
			"ALTER SEQUENCE … RENAME TO %s", sequenceName, sequenceName)
	}
	return nil
}
