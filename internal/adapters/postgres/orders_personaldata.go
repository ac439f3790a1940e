package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// PersonalData finds and erases what a database has of customers.
type PersonalData struct{ db *bun.DB }

var _ orders.PersonalData = (*PersonalData)(nil)

// NewPersonalData returns the personal data in db.
func NewPersonalData(db *bun.DB) *PersonalData { return &PersonalData{db} }

const (
	// aggregatesOfOrders are the types of the aggregates whose id is the id of an order.
	aggregatesOfOrders = `ARRAY['` + orders.AggregateType + `', '` + orders.FulfillmentAggregate + `']`

	// ordersOf are the ids of a customer's orders. Postgres hashes them once for a statement.
	ordersOf = `(SELECT id FROM orders WHERE customer_id = ?0::uuid)`

	// eventOfOrder matches the letters of the customer's orders.
	eventOfOrder = `letter.aggregate_type = ANY (` + aggregatesOfOrders + `)
		AND letter.aggregate_id IN (SELECT id::text FROM orders WHERE customer_id = ?0::uuid)`

	// plainLetter matches the letters that have a plain event of a customer: by the order, or by the customer's id in its field of the payload or
	// in its header. The second one also finds the events of orders that have a pseudonym already. A note that has the id does not count.
	plainLetter = `nullif(letter.headers ->> 'ce-sealedkey', '') IS NULL AND letter.payload <> ` + erasedPayload + ` AND (
		` + eventOfOrder + `
		OR position(convert_to('"customer_id":"' || ?0 || '"', 'UTF8') IN letter.payload) > 0
		OR position(convert_to('"customer_id": "' || ?0 || '"', 'UTF8') IN letter.payload) > 0 OR letter.headers ->> 'ce-authid' = ?0)`

	// sealedLetter matches the letters that have a sealed event of one of the customer's orders. It also matches those whose key was erased and
	// whose error was not removed: a subscriber that still had the key may have made such a letter after the erasure.
	sealedLetter = `nullif(letter.headers ->> 'ce-sealedkey', '') IS NOT NULL AND ((` + eventOfOrder + `) OR letter.error NOT IN ('', ` + erasedError + `)
		AND letter.headers ->> 'ce-sealedkey' IN (SELECT key_id::text FROM customer_keys WHERE customer_id IS NULL))`

	erasedPayload = `'{"erased":true}'::bytea`
	erasedError   = `'the customer was erased'`

	// oldKey matches the rows of a former version's request keys that name a customer.
	oldKey = `starts_with(fingerprint, 'place ' || ?0 || ' ')`

	holdingsStatement = `
SELECT (SELECT count(*) FROM orders WHERE customer_id = ?0::uuid),
	(SELECT count(*) FROM request_keys WHERE scope = ?0 OR order_id IN ` + ordersOf + `) +
	(SELECT count(*) FROM idempotency_keys WHERE ` + oldKey + ` OR order_id IN ` + ordersOf + `),
	(SELECT count(*) FROM customer_totals WHERE customer_id = ?0::uuid),
	(SELECT count(*) FROM dead_letters AS letter WHERE ` + plainLetter + `),
	(SELECT count(*) FROM dead_letters AS letter WHERE ` + sealedLetter + `),
	EXISTS (SELECT FROM customer_keys WHERE customer_id = ?0::uuid AND key_id IS DISTINCT FROM ?1::uuid)`

	// eventsOf are the events of the customer's orders.
	eventsOf = `
	SELECT e.event_id, e.position, e.event_type, nullif(e.headers ->> 'ce-sealedkey', '') IS NOT NULL AS sealed
	FROM ` + ordersOf + ` AS mine JOIN outbox AS e ON e.aggregate_type = ANY (` + aggregatesOfOrders + `) AND e.aggregate_id = mine.id::text`

	// waitsInParkingLot matches the rows of parked events that were not published yet.
	waitsInParkingLot = `parked.state IN ('parked', 'redrive')`

	customerEventsStatement = `
WITH mine AS MATERIALIZED (` + eventsOf + `)
SELECT count(*) FILTER (WHERE NOT sealed), count(*) FILTER (WHERE sealed), (
	SELECT count(*) FROM outbox_parked AS parked WHERE ` + waitsInParkingLot + ` AND parked.position IN (SELECT position FROM mine))
FROM mine`

	// customerBehindStatement counts, for each subscriber, the events that it wants and has not taken. These are events after the position of
	// its slowest lane, and events that were or will be redriven behind it. Events of orders that have a pseudonym already are found by their
	// payload, but only after that position: so the statement reads no more of the log than the slowest subscriber has to read.
	customerBehindStatement = `
WITH reader AS MATERIALIZED (
	SELECT subscriber, min(coalesce(progress, 0)) AS progress, min(sequence) AS sequence FROM subscriber_lanes GROUP BY subscriber
), mine AS MATERIALIZED (` + eventsOf + `
	UNION
	SELECT e.event_id, e.position, e.event_type, false FROM outbox AS e
	WHERE e.position > (SELECT min(progress) FROM reader) AND e.aggregate_type = ANY (` + aggregatesOfOrders + `)
		AND nullif(e.headers ->> 'ce-sealedkey', '') IS NULL
		AND (strpos(e.payload::text, '"customer_id":"' || ?0 || '"') > 0 OR strpos(e.payload::text, '"customer_id": "' || ?0 || '"') > 0)
)
SELECT reader.subscriber, count(*) FROM reader
JOIN subscriber_types AS wanted ON wanted.subscriber = reader.subscriber
JOIN mine ON mine.event_type = wanted.event_type
LEFT JOIN outbox_parked AS parked ON parked.position = mine.position
WHERE (mine.position > reader.progress OR ` + waitsInParkingLot + ` OR parked.state = 'redriven' AND parked.stream_sequence > reader.sequence)
	AND parked.state IS DISTINCT FROM 'discarded'
	AND NOT EXISTS (SELECT FROM inbox WHERE inbox.subscriber = reader.subscriber AND inbox.event_id = mine.event_id)
GROUP BY reader.subscriber ORDER BY reader.subscriber COLLATE "C"`
)

// Inspect sends three statements. They read the events of all of the customer's orders by an index, all dead letters, all request keys, and the
// part of the log that the slowest subscriber has not read.
func (p *PersonalData) Inspect(ctx context.Context, customer value.CustomerID) (orders.CustomerData, error) {
	ctx = allow(ctx, operatorTime)
	found, err := inspectCustomer(ctx, p.db, customer, nil)
	if err != nil {
		return orders.CustomerData{}, err
	}
	found.Behind, err = p.behind(ctx, customer)
	return found, err
}

// inspectCustomer does not count the key lockKey.
func inspectCustomer(ctx context.Context, db bun.IDB, customer value.CustomerID, lockKey any) (found orders.CustomerData, err error) {
	err = db.QueryRowContext(ctx, holdingsStatement, string(customer), lockKey).Scan(
		&found.Orders, &found.Requests, &found.Totals, &found.Letters, &found.SealedLetters, &found.Key)
	if err != nil {
		return orders.CustomerData{}, classify(ctx, err)
	}
	err = db.QueryRowContext(ctx, customerEventsStatement, string(customer)).Scan(&found.PlainEvents, &found.SealedEvents, &found.Parked)
	if err != nil {
		return orders.CustomerData{}, classify(ctx, err)
	}
	return found, nil
}

// behind reads the part of the log that the slowest subscriber has not read, so it takes long if nobody uses a subscriber any more.
func (p *PersonalData) behind(ctx context.Context, customer value.CustomerID) (all []orders.Behind, err error) {
	defer func() {
		if err != nil {
			err = classify(ctx, fmt.Errorf("count what subscribers have not applied (a subscriber that nobody needs makes this slow: "+
				"outboxie subscriber forget): %w", err))
		}
	}()
	rows, err := p.db.QueryContext(ctx, customerBehindStatement, string(customer))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var behind orders.Behind
		if err := rows.Scan(&behind.Subscriber, &behind.Events); err != nil {
			return nil, err
		}
		all = append(all, behind)
	}
	return all, rows.Err()
}

const (
	// These statements wait for requests with one of the keys. They come first, because a request claims its key before it holds the customer's
	// key and before it saves the order.
	deleteRequestsStatement    = `DELETE FROM request_keys WHERE scope = ?0 OR order_id IN ` + ordersOf
	deleteOldRequestsStatement = `DELETE FROM idempotency_keys WHERE ` + oldKey + ` OR order_id IN ` + ordersOf

	// lockKeyStatement waits for transactions that hold the customer's key or make one. From now on nobody holds the key. If the customer has no
	// key, it inserts one with the id ?1, which nobody ever sees.
	lockKeyStatement = `
INSERT INTO customer_keys AS held (key_id, customer_id, key) VALUES (?1::uuid, ?0::uuid, sha256(''))
ON CONFLICT (customer_id) DO UPDATE SET created_at = held.created_at`

	lockOrdersStatement = `SELECT FROM orders WHERE customer_id = ?0 ORDER BY id FOR UPDATE`

	pseudonymStatement = `
UPDATE orders SET customer_id = ?1, payment_reference = '', carrier = '', tracking = '', cancel_reason = '', updated_at = clock_timestamp()
WHERE customer_id = ?0`

	// deleteLateRequestsStatement deletes keys of these orders that were claimed meanwhile. It skips a key that a request is claiming, because
	// the request may wait for this transaction.
	deleteLateRequestsStatement = `
DELETE FROM request_keys WHERE ctid = ANY (ARRAY (
	SELECT ctid FROM request_keys WHERE order_id IN (SELECT id FROM orders WHERE customer_id = ?0) FOR UPDATE SKIP LOCKED))`

	// lockLettersStatement locks letters in the order of their positions, as every transaction does.
	lockLettersStatement = `
SELECT FROM dead_letters AS letter WHERE (` + plainLetter + `) OR (` + sealedLetter + `)
ORDER BY letter.subscriber, letter.position, letter.event_id FOR UPDATE`

	// discardLettersStatement makes sure that the events of the letters are not applied. The next redelivery promotes the next letter of the
	// aggregate.
	discardLettersStatement = `
WITH erased AS (
	UPDATE dead_letters AS letter SET state = 'discarded', payload = ` + erasedPayload + `, error = ` + erasedError + `,
		headers = (letter.headers::jsonb - 'ce-authid')::json, _no_handler = NULL,
		due_at = CASE WHEN letter.state = 'discarded' THEN letter.due_at ELSE clock_timestamp() END,
		changed_at = CASE WHEN letter.state = 'discarded' THEN letter.changed_at ELSE clock_timestamp() END
	WHERE ` + plainLetter + `
	RETURNING subscriber, ` + eventID + ` AS event, aggregate_type, aggregate_id, aggregate_version, position, _sequence
)
INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence, applied_at)
SELECT subscriber, event, coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(aggregate_version, 0),
	coalesce(position, 0), _sequence, NULL
FROM erased WHERE event IS NOT NULL ORDER BY subscriber, position ON CONFLICT DO NOTHING`

	// cleanLettersStatement removes what errors may quote.
	cleanLettersStatement = `UPDATE dead_letters AS letter SET error = ` + erasedError + ` WHERE ` + sealedLetter + ` AND error <> ''`

	// lockTotalsStatement locks the rows in the order in which subscribers do it.
	lockTotalsStatement = `SELECT FROM customer_totals WHERE customer_id = ?0 ORDER BY subscriber, customer_id, currency FOR UPDATE`
	totalsStatement     = `UPDATE customer_totals SET customer_id = ?1 WHERE customer_id = ?0`

	eraseKeyStatement = `
UPDATE customer_keys SET customer_id = NULL, key = NULL, erased_at = clock_timestamp() WHERE customer_id = ?0 AND key_id <> ?1`
	dropLockStatement = `DELETE FROM customer_keys WHERE customer_id = ?0 AND key_id = ?1`
)

// Erase takes locks in the order in which other transactions take them: request keys, the customer's key, orders, letters, totals. The
// statements about letters come before the orders get the pseudonym, because they find the letters by the orders.
func (p *PersonalData) Erase(ctx context.Context, customer, pseudonym value.CustomerID) (found orders.CustomerData, err error) {
	ctx = allow(ctx, operatorTime)
	whose, other, lock := string(customer), string(pseudonym), uuid.NewString()
	behind, err := p.behind(ctx, customer) // before anything is locked
	if err != nil {
		return orders.CustomerData{}, err
	}
	err = transact(ctx, p.db, func(ctx context.Context, tx bun.Tx) error {
		requests := 0
		steps := func(each ...step) error {
			for _, s := range each {
				n, err := affected(ctx)(tx.ExecContext(ctx, s.statement, s.args...))
				if err != nil {
					return err
				}
				if s.count != nil {
					*s.count += n
				}
			}
			return nil
		}
		err := steps(
			step{deleteRequestsStatement, []any{whose}, &requests},
			step{deleteOldRequestsStatement, []any{whose}, &requests},
			step{lockKeyStatement, []any{whose, lock}, nil},
			step{lockOrdersStatement, []any{whose}, nil},
			step{lockLettersStatement, []any{whose}, nil},
		)
		if err != nil {
			return err
		}
		if found, err = inspectCustomer(ctx, tx, customer, lock); err != nil {
			return err
		}
		found.Orders, found.Totals, found.Requests = 0, 0, found.Requests+requests
		return steps(
			step{discardLettersStatement, []any{whose}, nil},
			step{cleanLettersStatement, []any{whose}, nil},
			step{pseudonymStatement, []any{whose, other}, &found.Orders},
			step{deleteLateRequestsStatement, []any{other}, nil},
			step{lockTotalsStatement, []any{whose}, nil},
			step{totalsStatement, []any{whose, other}, &found.Totals},
			step{eraseKeyStatement, []any{whose, lock}, nil},
			step{dropLockStatement, []any{whose, lock}, nil},
		)
	})
	found.Behind = behind
	return found, err
}

// step is a statement of Erase. count is increased by the number of rows, unless it is nil.
type step struct {
	statement string
	args      []any
	count     *int
}
