package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
)

// letterBefore inserts the letter of an event and its inbox row as an earlier version wrote them. The letter is due after the
// given time.
func letterBefore(t *testing.T, h *harness, event inbox.Event, state inbox.LetterState, due time.Duration) {
	t.Helper()
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version,
			position, recorded_at, event_type, subject, headers, payload, due_at)
		VALUES (?, ?, ?, 'before', 2, ?, ?, ?, ?, now(), ?, ?, '{}', '{}', clock_timestamp() + ? * interval '1 microsecond')`,
		emails, event.ID, string(state), event.Key.Type, event.Key.ID, event.Version, int64(event.Position), event.Type, event.Subject,
		due.Microseconds())
	recordBefore(t, h, event, nil)
}

// rowStates returns position and state of all letters as the table stores them. Earlier versions read the states from there.
func rowStates(t *testing.T, h *harness) (states []string) {
	t.Helper()
	require.NoError(t, h.others.NewRaw("SELECT position || ' ' || state FROM dead_letters ORDER BY position").Scan(t.Context(), &states))
	return states
}

// redelivered calls Redeliver, and returns the positions of the letters that were applied.
func redelivered(t *testing.T, in *postgres.Inbox, r inbox.Redelivery) (positions []outbox.Position) {
	t.Helper()
	done, _, err := in.Redeliver(t.Context(), emails, r, ignore, thrice)
	require.NoError(t, err)
	for _, entry := range done.Applied {
		positions = append(positions, entry.Position)
	}
	return positions
}

// TestRowsThatWaitWithoutNeed checks rows whose stored state is out of date. A waiting letter with no letter before it is shown
// as retrying and is redelivered. A retrying letter behind a dead one still waits.
func TestRowsThatWaitWithoutNeed(t *testing.T) {
	h := newHarness(t)
	in := newInbox(h.db)
	letterBefore(t, h, eventOf(1, "a"), inbox.Waiting, time.Hour) // the letter before it was discarded while another version inserted this one
	letterBefore(t, h, eventOf(2, "a"), inbox.Waiting, 0)
	letterBefore(t, h, eventOf(3, "b"), inbox.Dead, 0)
	letterBefore(t, h, eventOf(4, "b"), inbox.Retrying, 0)
	failBefore(t, h, eventOf(5, "c")) // no letter waits behind this one
	letterBefore(t, h, eventOf(6, "c"), inbox.Waiting, 0)
	letters, err := in.Letters(t.Context(), emails, 10)
	require.NoError(t, err)
	var shown []string
	for _, letter := range letters {
		shown = append(shown, fmt.Sprintf("%d %s %d", letter.Position, letter.State, letter.Behind))
	}
	require.Equal(t, []string{"1 retrying 1", "3 dead 1", "5 failing 0", "6 retrying 0"}, shown)
	require.ElementsMatch(t, []outbox.Position{1, 2, 6}, append(redelivered(t, in, inbox.Redelivery{Limit: 9}), redelivered(t, in, inbox.Redelivery{Limit: 9})...))
	require.Empty(t, redelivered(t, in, inbox.Redelivery{Limit: 9}))
	require.Equal(t, []string{"3 dead", "4 retrying", "5 failing"}, rowStates(t, h))
}

// TestRowsForProgramsOfBefore checks that only the first letter of an aggregate is stored as retrying, because earlier versions
// redeliver every row in that state.
func TestRowsForProgramsOfBefore(t *testing.T) {
	h := newHarness(t)
	in := newInbox(h.db)
	for position := uint64(1); position <= 5; position++ {
		letterBefore(t, h, eventOf(position, "a"), inbox.Waiting, 0)
	}
	exec(t, h.others, "UPDATE dead_letters SET state = 'dead' WHERE position IN (1, 3)")
	retried, err := inboxtest.RetryAll(t.Context(), in, emails)
	require.NoError(t, err)
	require.Equal(t, 2, retried)
	require.Equal(t, []string{"1 retrying", "2 waiting", "3 waiting", "4 waiting", "5 waiting"}, rowStates(t, h))
	require.Equal(t, []outbox.Position{1, 2}, redelivered(t, in, inbox.Redelivery{Limit: 2}))
	require.Equal(t, []string{"3 retrying", "4 waiting", "5 waiting"}, rowStates(t, h))
	letters, err := in.Letters(t.Context(), emails, 1)
	require.NoError(t, err)
	require.NoError(t, in.Discard(t.Context(), emails, letters[0].ID))
	require.Equal(t, []string{"3 discarded", "4 retrying", "5 waiting"}, rowStates(t, h))
}

// TestLettersByHand checks letters that no version writes. A letter whose event was already applied has no second effect, and a
// letter whose event id is no UUID becomes dead.
func TestLettersByHand(t *testing.T) {
	h := newHarness(t)
	in := newInbox(h.db)
	events := []inbox.Event{eventOf(1, "a"), eventOf(2, "a"), eventOf(3, "a")}
	for _, event := range events {
		letterBefore(t, h, event, inbox.Waiting, 0)
	}
	exec(t, h.others, "UPDATE inbox SET applied_at = '2020-01-01' WHERE event_id = ?", events[0].ID)
	exec(t, h.others, "DELETE FROM inbox WHERE event_id = ?", events[1].ID)
	exec(t, h.others, "UPDATE dead_letters SET event_id = 'no UUID' WHERE event_id = ?", events[2].ID)
	_, _, err := in.Redeliver(t.Context(), emails, inbox.Redelivery{Limit: 9}, ignore, thrice)
	var failed *inbox.EventError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 2, failed.Index)
	require.ErrorIs(t, err, inbox.ErrPermanent)
	require.Equal(t, []outbox.Position{2}, redelivered(t, in, inbox.Redelivery{Limit: 9, Savepoints: true}))
	require.Equal(t, "before NULL", inboxRow(t, h, events[0]))
	require.Equal(t, "now NULL", inboxRow(t, h, events[1]))
	require.Equal(t, []string{"3 dead"}, rowStates(t, h))

	again := eventOf(4, "b")
	letterBefore(t, h, again, inbox.Dead, 0)
	exec(t, h.others, "UPDATE inbox SET applied_at = '2020-01-01' WHERE event_id = ?", again.ID)
	require.ErrorIs(t, in.Discard(t.Context(), emails, again.ID), inbox.ErrNoLetter)
	require.Equal(t, []string{"3 dead"}, rowStates(t, h), "it had been applied, so there is nothing to decide")
}

// The statements with which version f668941 redelivers a letter, word for word.
const (
	earlierDue = `
UPDATE dead_letters SET due_at = clock_timestamp() + ?1 * interval '1 microsecond'
WHERE subscriber = ?0 AND event_id = (
	SELECT event_id FROM dead_letters
	WHERE subscriber = ?0 AND state = 'retrying' AND due_at <= clock_timestamp()
	ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING event_id, aggregate_type, aggregate_id, aggregate_version, position`
	earlierRecord = `
INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
SELECT ?0, ?1, ?2, ?3, ?4, ?5
WHERE set_config('idle_in_transaction_session_timeout', ?6, true) IS NOT NULL AND NOT EXISTS (
	SELECT FROM dead_letters
	WHERE subscriber = ?0 AND aggregate_type = ?2 AND aggregate_id = ?3 AND position <= ?5 AND state <> 'discarded')
ON CONFLICT DO NOTHING`
	earlierApplied = `SELECT EXISTS (
		SELECT FROM inbox WHERE subscriber = ? AND event_id = ? AND applied_at IS NOT NULL)`
	earlierLock   = "SELECT state FROM dead_letters WHERE subscriber = ? AND event_id = ? FOR UPDATE"
	earlierEnd    = "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ?"
	earlierResume = `
INSERT INTO inbox AS i (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (subscriber, event_id) DO UPDATE SET applied_at = clock_timestamp()
	WHERE i.applied_at IS NULL AND ?`
	earlierRelease = `UPDATE dead_letters
		SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
		WHERE subscriber = ?0 AND state = 'waiting' AND event_id = (
			SELECT event_id FROM dead_letters
			WHERE subscriber = ?0 AND aggregate_type = ?1 AND aggregate_id = ?2 AND state IN ('dead', 'waiting', 'retrying')
			ORDER BY position LIMIT 1)`
)

// earlierRedeliver redelivers one due letter as version f668941 does. It reports whether there was one.
func earlierRedeliver(ctx context.Context, db *bun.DB, handle func(ctx context.Context, position int64)) (found bool, err error) {
	var id, aggregateType, aggregateID string
	var version, position int64
	err = db.QueryRowContext(ctx, earlierDue, emails, 0).Scan(&id, &aggregateType, &aggregateID, &version, &position)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.ExecContext(ctx, earlierRecord, emails, id, aggregateType, aggregateID, version, position, "10000"); err != nil {
			return err
		}
		applied, state := false, ""
		if err := tx.QueryRowContext(ctx, earlierApplied, emails, id).Scan(&applied); err != nil || applied {
			return err
		}
		if err := tx.QueryRowContext(ctx, earlierLock, emails, id).Scan(&state); err != nil || state != "retrying" {
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			return err
		}
		if _, err := tx.ExecContext(ctx, earlierEnd, emails, id); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, earlierResume, emails, id, aggregateType, aggregateID, version, position, true)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, earlierRelease, emails, aggregateType, aggregateID); err != nil {
			return err
		}
		if resumed, err := result.RowsAffected(); err != nil || resumed == 0 {
			return err
		}
		handle(ctx, position)
		return nil
	})
}

// TestRedeliverBesideTheProgramOfBefore checks that two versions can redeliver the same letters at the same time. Each event
// takes effect once, in the order of its aggregate.
func TestRedeliverBesideTheProgramOfBefore(t *testing.T) {
	h := newHarness(t)
	in := newInbox(h.db)
	const rounds, letters = 30, 5
	shares := map[string]int{}
	for round := range rounds {
		for i := range letters {
			state := inbox.Waiting
			if i == 0 {
				state = inbox.Retrying
			}
			letterBefore(t, h, eventOf(uint64(round*letters+i+1), fmt.Sprint("order-", round)), state, 0)
		}
		var mu sync.Mutex
		var handled []int64
		handle := func(program string) func(ctx context.Context, position int64) {
			return func(_ context.Context, position int64) {
				mu.Lock()
				defer mu.Unlock()
				handled = append(handled, position)
				shares[program]++
			}
		}
		var both sync.WaitGroup
		until := func(redeliver func() error) {
			both.Go(func() {
				for begun := time.Now(); time.Since(begun) < beginTimeout; {
					if err := redeliver(); err != nil && fault.KindOf(err) != fault.Unavailable {
						t.Error(err)
						return
					}
					mu.Lock()
					done := len(handled) >= letters
					mu.Unlock()
					if done {
						return
					}
				}
			})
		}
		until(func() error {
			_, err := earlierRedeliver(t.Context(), h.others, handle("earlier"))
			return postgres.Classify(t.Context(), err)
		})
		until(func() error {
			_, _, err := in.Redeliver(t.Context(), emails, inbox.Redelivery{Limit: 1 + round%3},
				handlerFunc(func(ctx context.Context, _ inbox.Tx, entry outbox.Entry) error {
					handle("present")(ctx, int64(entry.Position))
					return nil
				}), thrice)
			return err
		})
		both.Wait()
		require.Len(t, handled, letters)
		require.IsIncreasing(t, handled)
	}
	t.Logf("handled: %v", shares)
	require.Zero(t, count(t, h, "SELECT count(*) FROM dead_letters"))
	require.Equal(t, rounds*letters, count(t, h, "SELECT count(*) FROM inbox WHERE applied_at > clock_timestamp() - interval '1 hour'"))
}
