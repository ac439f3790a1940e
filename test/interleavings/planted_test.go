package interleavings_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// planted returns a faulty operation, made of one transaction after the other.
func planted(in *state, name string, transactions ...func(ctx context.Context, tx bun.Tx) error) *operation {
	return &operation{name: "planted: " + name, in: in, do: func(ctx context.Context, s *side) (string, error) {
		for _, fn := range transactions {
			if err := (formerInbox{s}).do(ctx, func(tx bun.Tx) error { return fn(ctx, tx) }); err != nil {
				return "", err
			}
		}
		return "", nil
	}}
}

func run(ctx context.Context, tx bun.Tx, statement string, args ...any) error {
	_, err := tx.ExecContext(ctx, statement, args...)
	return err
}

// effect adds the effect of an event.
func effect(ctx context.Context, tx bun.Tx, id string) error {
	customer, amount := effectOf(id)
	return run(ctx, tx, `INSERT INTO customer_totals AS total VALUES (?, ?, 'EUR', ?, 1) ON CONFLICT (subscriber, customer_id, currency)
		DO UPDATE SET amount_minor = total.amount_minor + excluded.amount_minor, orders = total.orders + excluded.orders`,
		subscriber, string(customer), amount)
}

// take records an event, and applies it if nobody has dealt with it.
func take(ctx context.Context, tx bun.Tx, event inbox.Event) error {
	n, err := rowsOf(tx.ExecContext(ctx, `INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, clock_timestamp(), ?) ON CONFLICT DO NOTHING`,
		subscriber, event.ID, event.Key.Type, event.Key.ID, event.Version, int64(event.Position), int64(event.Sequence)))
	if err != nil || n == 0 {
		return err
	}
	return effect(ctx, tx, event.ID)
}

// move moves lane 0. If compare is set, it moves the lane only from the checkpoint of the state.
func move(ctx context.Context, tx bun.Tx, to uint64, compare bool) error {
	return run(ctx, tx, `UPDATE subscriber_lanes SET sequence = ?, stored_ns = ?, revision = revision + 1, moved_at = clock_timestamp()
		WHERE subscriber = ? AND lane = 0 AND (revision = ? OR NOT ?)`, int64(to), positionAt(to).StoredAt.UnixNano(), subscriber, laneRevision, compare)
}

// raise raises the progress of lane 0 past the hidden events. If compare is set, it does so only at the checkpoint of the state.
func raise(ctx context.Context, tx bun.Tx, compare bool) error {
	return run(ctx, tx, `UPDATE subscriber_lanes SET progress = ?, revision = revision + 1, moved_at = clock_timestamp()
		WHERE subscriber = ? AND lane = 0 AND (revision = ? OR NOT ?)`, int64(hidden[len(hidden)-1].Position), subscriber, laneRevision, compare)
}

// letter creates the letter of an event, and records in the inbox that the event was set aside.
func letter(ctx context.Context, tx bun.Tx, event inbox.Event, state inbox.LetterState) error {
	if err := insertFormer(ctx, tx, event.Entry); err != nil {
		return err
	}
	if _, err := settleFormer(ctx, tx, event.Entry, inbox.Dead); err != nil {
		return err
	}
	return updateLetter(ctx, tx, event.ID, state, "no", 1)
}

// end records in the inbox that an event was applied.
func end(ctx context.Context, tx bun.Tx, entry outbox.Entry) error {
	return run(ctx, tx, "UPDATE inbox SET applied_at = clock_timestamp() WHERE subscriber = ? AND event_id = ?", subscriber, entry.ID)
}

// The planted faults move lane 0 to the ends of these batches. A move to the end of fromAnywhere compares nothing. A move to the end of
// beforeEffects comes before the effects.
var (
	fromAnywhere  = newBatch(0, b2)
	beforeEffects = newBatch(0, b2).to(b2.Sequence)
)

// plantedFaults are faults of a subscriber, of a writer of orders, and of a relay. The named check must notice each fault while a
// correct operation runs beside it.
var plantedFaults = []struct {
	*operation
	beside, check string
}{
	{planted(&openState, "a lane moves from wherever it stands", func(ctx context.Context, tx bun.Tx) error {
		if err := move(ctx, tx, fromAnywhere.To.Sequence, false); err != nil {
			return err
		}
		return take(ctx, tx, b2)
	}), "rewind", passed},
	{planted(&openState, "a fill raises the progress wherever the lane stands", func(ctx context.Context, tx bun.Tx) error {
		if err := raise(ctx, tx, false); err != nil {
			return err
		}
		for _, event := range hidden[1:] { // the first one has a letter
			if err := take(ctx, tx, event); err != nil {
				return err
			}
		}
		return nil
	}), "rewind", passed},
	{planted(&openState, "a fill counts after it has the lane", func(ctx context.Context, tx bun.Tx) error {
		if err := raise(ctx, tx, true); err != nil {
			return err
		}
		return run(ctx, tx, `INSERT INTO subscribers AS s (subscriber) VALUES (?)
			ON CONFLICT (subscriber) DO UPDATE SET filled = s.filled + 1`, subscriber)
	}), "pause", deadlocked},
	{planted(&openState, "a lane moves before the effects", func(ctx context.Context, tx bun.Tx) error {
		return move(ctx, tx, beforeEffects.To.Sequence, true)
	}, func(ctx context.Context, tx bun.Tx) error { return take(ctx, tx, b2) }), "look, and apply what follows", disorder},
	{planted(&openState, "a letter has a transaction of its own, after the lane has moved", func(ctx context.Context, tx bun.Tx) error {
		return move(ctx, tx, beforeEffects.To.Sequence, true)
	}, func(ctx context.Context, tx bun.Tx) error { return letter(ctx, tx, b2, inbox.Dead) }), "look, and apply what follows", disorder},
	{planted(&openState, "an event that was set aside is recorded as failing", func(ctx context.Context, tx bun.Tx) error {
		return letter(ctx, tx, b2, inbox.Failing)
	}), "look: known", stranded},
	{planted(&retried, "a letter is redelivered without a lock", func(ctx context.Context, tx bun.Tx) error {
		var state inbox.LetterState
		err := tx.QueryRowContext(ctx, "SELECT state FROM dead_letters WHERE subscriber = ? AND event_id = ?", subscriber, a1.ID).Scan(&state)
		if err != nil || state != inbox.Retrying {
			return err
		}
		if err := effect(ctx, tx, a1.ID); err != nil {
			return err
		}
		if err := deleteLetter(ctx, tx, a1.ID); err != nil {
			return err
		}
		return end(ctx, tx, a1.Entry)
	}), "redeliver: one", effects},
	{planted(&retried, "a letter is applied and stays", func(ctx context.Context, tx bun.Tx) error {
		if err := effect(ctx, tx, a1.ID); err != nil {
			return err
		}
		return end(ctx, tx, a1.Entry)
	}), "look: known", appliedAndDead},
	{planted(&retried, "a letter is discarded without a lock", func(ctx context.Context, tx bun.Tx) error {
		var state inbox.LetterState
		err := tx.QueryRowContext(ctx, "SELECT state FROM dead_letters WHERE subscriber = ? AND event_id = ?", subscriber, a1.ID).Scan(&state)
		if err != nil {
			return inbox.ErrNoLetter
		}
		return run(ctx, tx, "UPDATE dead_letters SET state = 'discarded' WHERE subscriber = ? AND event_id = ?", subscriber, a1.ID)
	}), "redeliver: one", serial},
	{planted(&openState, "a lane writes totals in the order of its events", func(ctx context.Context, tx bun.Tx) error {
		if err := effect(ctx, tx, b2.ID); err != nil {
			return err
		}
		return effect(ctx, tx, b3.ID)
	}), "apply: new", deadlocked},
	{planted(&normal, "what the log can publish again is forgotten", func(ctx context.Context, tx bun.Tx) error {
		return run(ctx, tx, "DELETE FROM inbox WHERE event_id = ?", sweptEvents[0].ID)
	}), "renew", forgotten},
	{planted(&normal, "an order's version is written as it was read", func(ctx context.Context, tx bun.Tx) error {
		var version int64
		if err := tx.QueryRowContext(ctx, "SELECT version FROM orders WHERE id = ?", created).Scan(&version); err != nil {
			return err
		}
		if err := appendNext(ctx, tx, created, 1); err != nil {
			return err
		}
		return run(ctx, tx, "UPDATE orders SET version = ? WHERE id = ?", version+1, created)
	}), "pay", versions},
	{planted(&normal, "an event leaves out a version", func(ctx context.Context, tx bun.Tx) error {
		return appendNext(ctx, tx, created, 2)
	}), "renew", versions},
	{fencedFault(planted(&normal, "a write compares the revision too early", func(ctx context.Context, tx bun.Tx) error {
		var found int64
		if err := tx.QueryRowContext(ctx, "SELECT revision FROM outbox_cursor WHERE relay = ?", relayName).Scan(&found); err != nil {
			return err
		}
		if found != revision {
			return relay.ErrStaleRevision
		}
		return run(ctx, tx, "UPDATE outbox_cursor SET revision = revision + 1 WHERE relay = ?", relayName)
	})), "report a halt", revisions},
	{fencedFault(planted(&normal, "a write does not raise the revision", func(ctx context.Context, tx bun.Tx) error {
		return run(ctx, tx, "UPDATE outbox_cursor SET updated_at = clock_timestamp() WHERE relay = ?", relayName)
	})), "renew", revisions},
}

// fencedFault declares that success of a planted fault raises the cursor's revision.
func fencedFault(o *operation) *operation {
	o.fenced = true
	return o
}

// appendNext appends an event of an order to the log, step versions after the order's last event.
func appendNext(ctx context.Context, tx bun.Tx, order string, step int) error {
	return run(ctx, tx, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', ?0, max(aggregate_version) + ?1, 'planted', 'orders.planted', '{}'
		FROM outbox WHERE aggregate_type = 'order' AND aggregate_id = ?0`, order, step)
}

// TestPlantedFaultsAreNoticed checks that each check of a subscriber can fail, and the checks serial, forgotten, versions and revisions.
func TestPlantedFaultsAreNoticed(t *testing.T) {
	h := newHarness(t)
	for _, fault := range plantedFaults {
		t.Run(fault.name, func(t *testing.T) {
			other := named(fault.beside)
			known, err := profiles(t.Context(), h, []*operation{fault.operation, other})
			require.NoError(t, err)
			p := newPair(fault.operation, other, known)
			require.NoError(t, p.prepare(t.Context(), h))
			r := result{failed: make(map[string]failure)}
			e := explorer{reduced: true}
			for more := true; more && r.failed[fault.check].history == nil; more = e.next() {
				require.NoError(t, p.try(t.Context(), h, &e, &r))
			}
			require.Contains(t, r.failed, fault.check, "no interleaving violates the check")
			t.Logf("after %d interleavings: %s", r.run, r.failed[fault.check].detail)
		})
	}
}
