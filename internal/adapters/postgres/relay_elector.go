package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// marginShare says how early a holder stops trusting its lease: an eighth of the ttl before the lease ends. This covers clocks that run at
// different speeds, and the time between a look at the deadline and the act.
const marginShare = 8

// Elector competes for one row of the leases table. Each call is one autocommit statement, and the database's clock_timestamp() decides.
// All instances must use the same ttl. A lease that ends more than a ttl from now comes from a clock that has jumped, and counts as free.
type Elector struct {
	db     *bun.DB
	name   string
	holder string
	ttl    time.Duration
}

var _ relay.Elector = (*Elector)(nil)

// NewElector returns the elector of the instance holder for the lease name. Give the elector a pool of its own, so that busy reads and
// writes do not delay a renewal.
func NewElector(db *bun.DB, name, holder string, ttl time.Duration) *Elector {
	return &Elector{db: db, name: name, holder: holder, ttl: ttl}
}

// acquireStatement writes only if the lease is free. So an instance that does not get the lease neither locks the row nor leaves dead rows
// behind. If several instances find the lease free, the row lock lets one of them through. The others check the row again and find it held.
const acquireStatement = `
WITH taken AS (
	UPDATE leases SET holder = ?1, token = token + 1, acquired_at = clock_timestamp(),
		expires_at = clock_timestamp() + ?2 * interval '1 microsecond'
	WHERE name = ?0 AND (expires_at <= clock_timestamp()
		OR expires_at > clock_timestamp() + ?2 * interval '1 microsecond' OR token = ?3)
	RETURNING token
), first AS (
	INSERT INTO leases (name, holder, token, acquired_at, expires_at)
	SELECT ?0, ?1, 1, clock_timestamp(), clock_timestamp() + ?2 * interval '1 microsecond'
	WHERE NOT EXISTS (SELECT FROM leases WHERE name = ?0)
	ON CONFLICT (name) DO NOTHING
	RETURNING token
)
SELECT (SELECT token FROM taken UNION ALL SELECT token FROM first),
	(SELECT holder FROM leases WHERE name = ?0), (SELECT token FROM leases WHERE name = ?0)`

// Acquire uses the database's clock.
func (e *Elector) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	ctx, cancel := e.answer(ctx)
	defer cancel()
	asked := time.Now()
	var token, heldUnder sql.NullInt64
	var holder sql.NullString
	row := e.db.QueryRowContext(ctx, acquireStatement, e.name, e.holder, e.ttl.Microseconds(), gone)
	if err := row.Scan(&token, &holder, &heldUnder); err != nil {
		return relay.Term{}, classify(ctx, fmt.Errorf("acquire the lease %s: %w", e.name, err))
	}
	if !token.Valid {
		if !holder.Valid { // taken for the first time while the statement ran
			return relay.Term{}, &relay.LeaseHeldError{Holder: "another instance"}
		}
		return relay.Term{}, &relay.LeaseHeldError{Holder: holder.String, Token: heldUnder.Int64}
	}
	return e.term(token.Int64, asked), nil
}

// Renew runs one statement.
func (e *Elector) Renew(ctx context.Context, term relay.Term) (relay.Term, error) {
	ctx, cancel := e.answer(ctx)
	defer cancel()
	asked := time.Now()
	var token int64
	err := e.db.QueryRowContext(ctx, `UPDATE leases SET expires_at = clock_timestamp() + ?2 * interval '1 microsecond'
		WHERE name = ?0 AND token = ?1 RETURNING token`, e.name, term.Token, e.ttl.Microseconds()).Scan(&token)
	if errors.Is(err, sql.ErrNoRows) {
		return relay.Term{}, relay.ErrLeaseLost.With("the lease %s is not held under token %d any more", e.name, term.Token)
	}
	if err != nil {
		return relay.Term{}, classify(ctx, fmt.Errorf("renew the lease %s: %w", e.name, err))
	}
	return e.term(token, asked), nil
}

// Resign runs one statement. It changes nothing if the token is not the current one.
func (e *Elector) Resign(ctx context.Context, term relay.Term) error {
	ctx, cancel := e.answer(ctx)
	defer cancel()
	_, err := e.db.ExecContext(ctx, `UPDATE leases SET expires_at = clock_timestamp() WHERE name = ? AND token = ?`,
		e.name, term.Token)
	if err != nil {
		return classify(ctx, fmt.Errorf("resign the lease %s: %w", e.name, err))
	}
	return nil
}

// shortestAnswer is the least time for a call, however short the ttl is. A call may have to open a connection on an overloaded machine.
// With less time, no instance would ever lead on such a machine.
const shortestAnswer = 1500 * time.Millisecond

// answer limits a call, with its wait for a connection, to a quarter of the ttl. So a follower whose connections are dead can try another
// one while the lease runs out, and a leader can try again before its lease runs out.
func (e *Elector) answer(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, min(max(e.ttl/4, shortestAnswer), answerWithin))
}

// Pool returns the elector's own pool, for metrics.
func (e *Elector) Pool() *sql.DB { return e.db.DB }

func (e *Elector) term(token int64, asked time.Time) relay.Term {
	return relay.Term{Token: token, Deadline: asked.Add(e.ttl - e.ttl/marginShare)}
}

// RelayOptions names the relay that this instance competes to run.
type RelayOptions struct {
	Name     string        // the name of its lease and its cursor; the same for all instances
	Stream   string        // the stream to which it publishes
	Holder   string        // the name of this instance
	LeaseTTL time.Duration // the same for all instances
}
