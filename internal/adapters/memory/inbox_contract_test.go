package memory_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/outboxietest/operationstest"
	"github.com/assylzhan-a/outboxie/outboxietest/orderstest"
)

func TestCheckpoints(t *testing.T) {
	inboxtest.TestCheckpoints(t, func(*testing.T) inboxtest.Store { return newStore(memory.NewInbox()) })
}

func TestInbox(t *testing.T) {
	inboxtest.TestUnitOfWork(t, func(*testing.T) inboxtest.Store { return newStore(memory.NewInbox()) })
}

func TestDeadLetters(t *testing.T) {
	inboxtest.TestDeadLetters(t, openLetters)
}

func TestDeadLetterAdmin(t *testing.T) {
	inboxtest.TestDeadLetterAdmin(t, openLetters)
}

func TestLetterPairs(t *testing.T) {
	inboxtest.TestLetterPairs(t, 5, openLetters)
}

func TestOperator(t *testing.T) {
	inboxtest.TestOperator(t, func(*testing.T) inboxtest.OperatorStore {
		kept := memory.NewInbox()
		return inboxtest.OperatorStore{
			LetterStore: inboxtest.LetterStore{Store: newStore(kept), DeadLetters: kept}, Operator: memory.NewOperator(kept),
		}
	})
}

func openLetters(*testing.T) inboxtest.LetterStore {
	kept := memory.NewInbox()
	return inboxtest.LetterStore{Store: newStore(kept), DeadLetters: kept}
}

// connections disconnects and reconnects an Inbox.
type connections struct{ *memory.Inbox }

func (c connections) Disconnect(*testing.T) { c.Inbox.Disconnect() }
func (c connections) Reconnect(*testing.T)  { c.Inbox.Reconnect() }

func newStore(kept *memory.Inbox) inboxtest.Store {
	return inboxtest.Store{
		Connection: connections{kept}, Checkpoints: kept, UnitOfWork: kept, Letters: kept,
		WasApplied: func(_ *testing.T, subscriber string, ids ...string) (applied []string) {
			for _, id := range ids {
				if kept.Applied(subscriber, id) {
					applied = append(applied, id)
				}
			}
			return applied
		},
		Add: func(ctx context.Context, tx inbox.Tx, key string, amount int64) error {
			return memory.NewTotals().Add(ctx, tx, value.CustomerID(key), value.NewMoney(amount, "USD"))
		},
		Sum: func(t *testing.T, subscriber, key string) inboxtest.Sum {
			t.Helper()
			total := totalOf(kept)(t, subscriber, value.CustomerID(key), "USD")
			return inboxtest.Sum{Amount: total.Amount, Count: total.Orders}
		},
		FailNextCommit: func(*testing.T) { kept.FailNextCommit() },
	}
}

func totalOf(kept *memory.Inbox) func(*testing.T, string, value.CustomerID, value.Currency) orderstest.Total {
	return func(_ *testing.T, subscriber string, customer value.CustomerID, currency value.Currency) orderstest.Total {
		total := kept.Total(subscriber, customer, currency)
		if total.Orders == 0 {
			return orderstest.Total{}
		}
		return orderstest.Total{Amount: total.AmountMinor.String(), Orders: total.Orders}
	}
}

// TestTotals runs the contract of the totals.
func TestTotals(t *testing.T) {
	orderstest.TestTotals(t, func(*testing.T) orderstest.TotalsStore {
		kept := memory.NewInbox()
		return orderstest.TotalsStore{Inbox: newStore(kept), Totals: memory.NewTotals(), Total: totalOf(kept)}
	})
}

func TestSweeper(t *testing.T) {
	inboxtest.TestSweeper(t, func(t *testing.T) inboxtest.SweepStore {
		t.Helper()
		e, kept := newEngine(), memory.NewInbox()
		kept.UseLog(e.log)
		return inboxtest.SweepStore{
			LetterStore: inboxtest.LetterStore{Store: newStore(kept), DeadLetters: kept}, Sweeper: kept,
			SetStream: func(_ *testing.T, stream string) {
				e.cursors.Edit(func(cursor *relay.Cursor) { cursor.StreamCreated = stream })
			},
			AppendToLog: func(t *testing.T, events ...outbox.Entry) {
				t.Helper()
				for _, event := range events {
					e.log.SetSequence(event.Position - 1)
					writer := e.log.Begin()
					require.NoError(t, writer.Append(t.Context(), event.Message))
					require.NoError(t, writer.Commit())
				}
			},
			Park:  e.park,
			Purge: func(*testing.T) { e.log.Purge(1 << 20) },
		}
	})
}

func TestInboxLog(t *testing.T) {
	inboxtest.TestLog(t, func(*testing.T) inboxtest.HoleStore {
		e, kept := newEngine(), memory.NewInbox()
		kept.UseLog(e.log)
		return inboxtest.HoleStore{
			Store: newStore(kept), Log: kept,
			SetLogCursor: func(_ *testing.T, stream string, sequence uint64, position outbox.Position) {
				e.cursors.Edit(func(cursor *relay.Cursor) {
					cursor.StreamCreated, cursor.StreamSequence, cursor.Position = stream, sequence, position
				})
			},
			AppendToLog: func(t *testing.T, events ...outbox.Entry) {
				t.Helper()
				for _, event := range events {
					e.log.SetSequence(event.Position - 1)
					writer := e.log.Begin()
					require.NoError(t, writer.Append(t.Context(), event.Message))
					require.NoError(t, writer.Commit())
				}
			},
			Park: func(_ *testing.T, event outbox.Entry, sequence uint64) {
				state := relay.Parked
				if sequence > 0 {
					state = relay.Redriven
				}
				e.log.Park(event.Position, state, sequence)
			},
			Purge: func(_ *testing.T, upTo outbox.Position) { e.log.Purge(upTo) },
		}
	})
}

// park parks an event of the log, as a leader does.
func (e *engine) park(t *testing.T, event outbox.Entry) {
	t.Helper()
	term, err := e.Elector("leader").Acquire(t.Context(), 0)
	require.NoError(t, err)
	cursor, err := e.cursors.Load(t.Context())
	require.NoError(t, err)
	notice := relay.MessageMeta{Own: true, Progress: event.Progress(), Parked: "refused"}
	_, err = e.parking.Reconcile(t.Context(), relay.WriteFence{Token: term.Token, Revision: cursor.Revision}, notice, 1, true)
	require.NoError(t, err)
	e.lease.Advance(time.Hour)
}

func TestStream(t *testing.T) {
	inboxtest.TestStream(t, func(*testing.T) inboxtest.StreamHarness { return subscription{newEngine()} })
}

// subscription is an engine's stream with one subscriber.
type subscription struct{ *engine }

func (s subscription) Publisher() relay.StreamRepair { return s.stream }
func (s subscription) Reader(*testing.T) inbox.Stream {
	return memory.NewReader(s.stream, billing)
}

func TestEmitter(t *testing.T) {
	inboxtest.TestEmitter(t, func(*testing.T) inboxtest.EmitStore {
		kept, log := memory.NewInbox(), memory.NewLog()
		kept.UseLog(log)
		return inboxtest.EmitStore{
			LetterStore: inboxtest.LetterStore{Store: newStore(kept), DeadLetters: kept}, Emitter: memory.NewEmitter(), Log: log,
		}
	})
}

func TestEffectReader(t *testing.T) {
	operationstest.TestEffectReader(t, func(*testing.T) operationstest.EffectStore {
		kept, log := memory.NewInbox(), memory.NewLog()
		kept.UseLog(log)
		return operationstest.EffectStore{
			Effects: kept, Checkpoints: kept, UnitOfWork: kept, Letters: kept, Operator: memory.NewOperator(kept),
			AppendToLog: func(t *testing.T, events ...outbox.Entry) {
				t.Helper()
				for _, event := range events {
					log.SetSequence(event.Position - 1)
					writer := log.Begin()
					require.NoError(t, writer.Append(t.Context(), event.Message))
					require.NoError(t, writer.Commit())
				}
			},
		}
	})
}
