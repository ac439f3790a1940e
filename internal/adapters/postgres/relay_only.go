package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrOtherRelay reports that relays of other streams have used the outbox. Each of them would publish the events of all.
var ErrOtherRelay = fault.New(fault.Invalid, "other_relay", "a relay of another stream uses this outbox")

const relaysStatement = `
SELECT coalesce(bool_or(name = ?0), false), coalesce(array_agg(DISTINCT name) FILTER (WHERE name <> ?0), '{}')
FROM (SELECT name FROM leases UNION SELECT relay FROM outbox_cursor) AS relays`

// CheckOnlyRelay returns ErrOtherRelay if the outbox has a lease or a cursor of another relay. known reports whether the relay itself has one.
// Two relays that start at the same time see each other as soon as both are known.
func CheckOnlyRelay(ctx context.Context, db *bun.DB, relay string) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var others []string
	if err := db.QueryRowContext(ctx, relaysStatement, relay).Scan(&known, pgdialect.Array(&others)); err != nil {
		return false, classify(ctx, fmt.Errorf("look for other relays: %w", err))
	}
	if len(others) > 0 {
		return known, ErrOtherRelay.With("the outbox belongs to the stream %[1]s, and this relay publishes to %[2]s: give each service a database or a schema "+
			"of its own, or correct STREAM_NAME; if the service has left %[1]s for good, stop its relays and delete their rows of outbox_cursor and leases",
			strings.Join(others, ", "), relay)
	}
	return known, nil
}
