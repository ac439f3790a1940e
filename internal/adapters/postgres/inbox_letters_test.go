package postgres_test

import (
	"flag"
	"testing"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
)

func TestDeadLetters(t *testing.T) {
	inboxtest.TestDeadLetters(t, func(t *testing.T) inboxtest.LetterStore { return newHarness(t).letterStore() })
}

func TestDeadLetterAdmin(t *testing.T) {
	inboxtest.TestDeadLetterAdmin(t, func(t *testing.T) inboxtest.LetterStore { return newHarness(t).letterStore() })
}

// letterRounds is how often TestLetterPairs runs each pair of calls.
var letterRounds = flag.Int("letter-rounds", 40, "rounds of each pair of calls that TestLetterPairs makes (300: some minutes)")

// TestLetterPairs checks that two concurrent calls about an aggregate's letters never leave a letter behind, in any order. An
// earlier version left a letter behind in 90 of 300 rounds.
func TestLetterPairs(t *testing.T) {
	inboxtest.TestLetterPairs(t, *letterRounds, func(t *testing.T) inboxtest.LetterStore { return newHarness(t).letterStore() })
}

func TestSweeper(t *testing.T) {
	inboxtest.TestSweeper(t, func(t *testing.T) inboxtest.SweepStore { return newHarness(t).sweepStore() })
}

func TestInboxLog(t *testing.T) {
	inboxtest.TestLog(t, func(t *testing.T) inboxtest.HoleStore {
		h := newHarness(t)
		return inboxtest.HoleStore{
			Store: h.store(), Log: postgres.NewInbox(h.db, postgres.InboxOptions{}), AppendToLog: h.sweepStore().AppendToLog,
			SetLogCursor: func(t *testing.T, stream string, sequence uint64, position outbox.Position) {
				exec(t, h.others, `INSERT INTO outbox_cursor (relay, stream_created, stream_sequence, position, token, updated_at)
					VALUES (?, ?, ?, ?, 1, now()) ON CONFLICT (relay) DO UPDATE SET stream_created = excluded.stream_created`,
					relayName, stream, int64(sequence), int64(position))
			},
			Park: func(t *testing.T, event outbox.Entry, sequence uint64) {
				exec(t, h.others, `INSERT INTO outbox_parked
					(position, event_id, aggregate_type, aggregate_id, event_type, reason, state, stream_sequence)
					VALUES (?0, ?1, ?2, ?3, ?4, 'too large', CASE WHEN ?5 = 0 THEN 'parked' ELSE 'redriven' END, nullif(?5, 0))`,
					int64(event.Position), event.ID, event.Key.Type, event.Key.ID, event.Type, int64(sequence))
			},
			Purge: func(t *testing.T, upTo outbox.Position) {
				exec(t, h.others, "DELETE FROM outbox WHERE position <= ?", int64(upTo))
				exec(t, h.others, "UPDATE outbox_cursor SET purged_to = ?", int64(upTo))
			},
		}
	})
}

func TestOperator(t *testing.T) {
	inboxtest.TestOperator(t, func(t *testing.T) inboxtest.OperatorStore {
		h := newHarness(t)
		return inboxtest.OperatorStore{LetterStore: h.letterStore(), Operator: postgres.NewOperator(h.db)}
	})
}

// letterStore is an inbox in the harness's database, with its dead letters.
func (h *harness) letterStore() inboxtest.LetterStore {
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	store := h.store()
	store.Letters = in
	return inboxtest.LetterStore{Store: store, DeadLetters: in}
}

// sweepStore is an inbox in the harness's database, with its sweeper and the relay's cursor.
func (h *harness) sweepStore() inboxtest.SweepStore {
	return inboxtest.SweepStore{
		LetterStore: h.letterStore(),
		Sweeper:     postgres.NewInbox(h.db, postgres.InboxOptions{}),
		SetStream: func(t *testing.T, stream string) {
			exec(t, h.others, `INSERT INTO outbox_cursor (relay, stream_created, token, updated_at) VALUES (?, ?, 1, now())
				ON CONFLICT (relay) DO UPDATE SET stream_created = excluded.stream_created`, relayName, stream)
		},
		AppendToLog: func(t *testing.T, events ...outbox.Entry) {
			for _, event := range events {
				exec(t, h.others, `INSERT INTO outbox
					(position, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
					OVERRIDING SYSTEM VALUE VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
					int64(event.Position), event.ID, event.Key.Type, event.Key.ID, event.Version, event.Type, event.Subject, string(event.Payload))
			}
		},
		Park: func(t *testing.T, event outbox.Entry) {
			exec(t, h.others, `INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
				VALUES (?, ?, ?, ?, ?, 'too large', 'parked')`, int64(event.Position), event.ID, event.Key.Type, event.Key.ID, event.Type)
		},
		Purge: func(t *testing.T) { exec(t, h.others, "TRUNCATE outbox, outbox_parked") },
	}
}
